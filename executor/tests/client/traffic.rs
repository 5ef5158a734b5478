//! What happens on the chain: our own tokens and exchange, with new accounts and slots, and blocks
//! of any size from empty on.
//!
//! No slot becomes zero again: anvil 1.7.1 leaves such a slot in its trie, and its state roots are
//! not Ethereum's from there on.

use alloy_consensus::{TxEnvelope, transaction::Recovered};
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, U256, address, bytes};
use multilane_fixtures::{
    contracts::{Erc20, FACTORY, Router, WRAPPED_ETHER, router_init_code, token_init_code},
    sample::{
        Account, Draft,
        genesis::{CHAIN_ID, genesis},
    },
};

type Transactions = Vec<Recovered<TxEnvelope>>;

const TRADERS: usize = 24;
const TOKENS: usize = 4;
/// 10^18: one whole token, in its smallest unit.
const WHOLE: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

/// The people of the chain, and the contracts that they use.
#[derive(Debug)]
pub(crate) struct Traffic {
    deployer: Account,
    traders: Vec<Account>,
    factory: Address,
    wrapped: Address,
    router: Address,
    tokens: [Address; TOKENS],
}

impl Traffic {
    pub(crate) fn new() -> Self {
        let account = |label: &str| Account::new(label, CHAIN_ID);
        let deployer = account("client deployer");
        let created = |nonce| deployer.address().create(nonce);
        Self {
            traders: (0..TRADERS).map(|index| account(&format!("client trader {index}"))).collect(),
            factory: created(0),
            wrapped: created(1),
            router: created(2),
            tokens: [3, 4, 5, 6].map(created),
            deployer,
        }
    }

    /// The state that anvil has in the end: it adds one contract, and calls no beacon roots.
    pub(crate) fn genesis() -> Genesis {
        const DEPLOYER: Address = address!("0x4e59b44847b379578588920ca78fbf26c0b4956c");
        let code = bytes!(
            "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe036016000816020\
             82378035828234f58015156039578182fd5b8082525050506014600cf3"
        );
        let Self { deployer, traders, .. } = Self::new();
        let people = traders.iter().chain([&deployer]).map(Account::address);
        let mut genesis = genesis(people);
        genesis.config.osaka_time = Some(0);
        genesis.alloc.remove(&BEACON_ROOTS_ADDRESS);
        genesis.alloc.insert(DEPLOYER, GenesisAccount::default().with_code(Some(code)));
        genesis
    }

    /// The transactions of a block. To be called for each block in order, from 1 on.
    pub(crate) fn block(&mut self, number: u64) -> Transactions {
        match number {
            1 => self.deployments(),
            2 => self.pools(),
            3 => self.distribution(),
            4 => self.approvals(),
            _ => self.everyday(number),
        }
    }

    fn deployments(&mut self) -> Transactions {
        let token = |index: usize| {
            let supply = WHOLE * U256::from(1_000_000_000_000_u64);
            token_init_code(&format!("Token {index}"), &format!("T{index}"), supply)
        };
        let exchange = [
            FACTORY.creation_code.clone(),
            WRAPPED_ETHER.creation_code.clone(),
            router_init_code(self.factory, self.wrapped),
        ];
        let codes = exchange.into_iter().chain((0..TOKENS).map(token));
        codes.map(|code| self.deployer.send(Draft::create(code))).collect()
    }

    /// One pool for each two neighbours among the tokens.
    fn pools(&mut self) -> Transactions {
        let (spender, to) = (self.router, self.deployer.address());
        let amount = WHOLE * U256::from(1_000_000);
        let approve = Erc20::approveCall { spender, amount: U256::MAX };
        let approvals = self.tokens.map(|token| Draft::call(token, &approve));
        let pools = self.tokens.windows(2).map(|pair| {
            let call = Router::addLiquidityCall {
                a: pair[0],
                b: pair[1],
                maxA: amount,
                maxB: amount,
                minShares: U256::ZERO,
                to,
            };
            Draft::call(spender, &call).gas_limit(5_000_000)
        });
        let drafts: Vec<_> = approvals.into_iter().chain(pools).collect();
        drafts.into_iter().map(|draft| self.deployer.send(draft)).collect()
    }

    fn distribution(&mut self) -> Transactions {
        let amount = WHOLE * U256::from(10_000);
        let mut transactions = Transactions::new();
        for trader in &self.traders {
            for token in self.tokens {
                let call = Erc20::transferCall { to: trader.address(), amount };
                transactions.push(self.deployer.send(Draft::call(token, &call)));
            }
        }
        transactions
    }

    fn approvals(&mut self) -> Transactions {
        let approve = Erc20::approveCall { spender: self.router, amount: U256::MAX };
        let approve_all = |trader: &mut Account| {
            self.tokens.map(|token| trader.send(Draft::call(token, &approve)))
        };
        self.traders.iter_mut().flat_map(approve_all).collect()
    }

    /// Every eighth block is empty, every eighth small; the others are full of swaps.
    fn everyday(&mut self, number: u64) -> Transactions {
        let seed = usize::try_from(number).unwrap();
        let mut transactions = match number % 8 {
            0 => return Transactions::new(),
            1 => (0..4).map(|trader| self.payment(trader, number)).collect(),
            _ => (0..TRADERS).map(|trader| self.swap(trader, seed)).collect::<Vec<_>>(),
        };
        transactions.extend((0..6).map(|index| self.transfer(index * 3, seed)));
        transactions
    }

    /// Ether for somebody who did not exist before.
    fn payment(&mut self, trader: usize, number: u64) -> Recovered<TxEnvelope> {
        let stranger = Address::left_padding_from(&(number << 8 | trader as u64).to_be_bytes());
        self.traders[trader].send(Draft::transfer(stranger, U256::from(number)))
    }

    /// Tokens for another trader, or for a stranger.
    fn transfer(&mut self, trader: usize, seed: usize) -> Recovered<TxEnvelope> {
        let to = match (seed + trader) % 3 {
            0 => Address::left_padding_from(&(0x1_0000 + seed * 32 + trader).to_be_bytes()),
            step => self.traders[(trader + step) % TRADERS].address(),
        };
        let call = Erc20::transferCall { to, amount: U256::from(seed) };
        self.traders[trader].send(Draft::call(self.tokens[(seed + trader) % TOKENS], &call))
    }

    /// A swap of one to three hops.
    fn swap(&mut self, trader: usize, seed: usize) -> Recovered<TxEnvelope> {
        let first = (trader + seed) % (TOKENS - 1);
        let last = (first + 1 + trader % 3).min(TOKENS - 1);
        let mut path = self.tokens[first..=last].to_vec();
        if seed.is_multiple_of(2) {
            path.reverse();
        }
        let call = Router::swapExactTokensCall {
            amountIn: WHOLE,
            minOut: U256::ONE,
            path,
            to: self.traders[trader].address(),
            deadline: U256::MAX,
        };
        self.traders[trader].send(Draft::call(self.router, &call))
    }
}
