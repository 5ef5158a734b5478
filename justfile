# Short names for the steps of `.ci/run`, which works without just as well.

# What there is
default:
    @just --list

# cargo test --workspace
test:
    .ci/run tests

# Formatting, clippy and the documentation, warnings denied
lint:
    .ci/run format clippy docs

# Everything that CI runs
ci:
    .ci/run

# Replay the embedded sample, or the given blocks: `just replay data/mainnet --threads 8`
replay *arguments:
    cargo run --release -- replay {{arguments}}

# Measure every performance target, with its verdict; takes minutes. First: `just uniswap`
targets *arguments:
    cargo run --release --package multilane-cli -- bench targets {{arguments}}

# Install the contracts that the uniswap workloads deploy
uniswap:
    .ci/run uniswap

# Compile our contracts and compare them with the committed artifacts
contracts:
    .ci/run contracts

# Write the embedded sample anew
sample:
    .ci/run sample
