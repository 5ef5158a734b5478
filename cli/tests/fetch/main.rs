mod anvil;
mod rpc;
#[test]
fn traffic() {
    let _a = anvil::Anvil::start();
}
