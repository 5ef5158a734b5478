use super::*;
use revm::DatabaseRef;
use serde_json::json;

const A: &str = "0x00000000000000000000000000000000000000aa";
const B: &str = "0x00000000000000000000000000000000000000bb";
const C: &str = "0x00000000000000000000000000000000000000cc";

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn parse(json: &Value) -> Result<Prestate, StateError> {
    Prestate::from_prestate_trace(json.to_string().as_bytes())
}

fn slot(prestate: &Prestate, account: &str, slot: u64) -> U256 {
    prestate.storage_ref(address(account), U256::from(slot)).unwrap()
}

#[test]
fn the_first_value_of_everything_wins() {
    let first = json!({
        A: {"balance": "0x0a", "nonce": 5, "storage": {"0x0": "0x01"}},
        B: {"balance": "0x0"},
    });
    let second = json!({
        A: {"balance": "0x63", "nonce": 6, "storage": {
            "0x0000000000000000000000000000000000000000000000000000000000000000": "0x63",
            "0x1": "0x000000000000000000000000000000000000000000000000000000000000002a"}},
        B: {"balance": "0x63", "storage": {"0x7": "0x9"}},
        C: {"balance": "0x1", "nonce": "0x0f", "code": "0x6001"},
    });
    let forms = [
        json!([{"txHash": "0x01", "result": first}, {"txHash": "0x02", "result": second}]),
        json!([{"result": first}, {"result": second}]),
        json!([first, second]),
        json!({"jsonrpc": "2.0", "id": 1, "result": [{"result": first}, {"result": second}]}),
    ];
    for form in forms {
        let prestate = parse(&form).unwrap();
        let account = prestate.account(&address(A)).unwrap();
        assert_eq!((account.balance, account.nonce), (U256::from(10), 5));
        assert_eq!((slot(&prestate, A, 0), slot(&prestate, A, 1)), (U256::ONE, U256::from(42)));
        // Absent at first, hence without the storage that the block gave it.
        assert!(prestate.is_absent(&address(B)));
        assert_eq!(slot(&prestate, B, 7), U256::ZERO);
        let account = prestate.account(&address(C)).unwrap();
        assert_eq!((account.balance, account.nonce), (U256::ONE, 15));
        assert_eq!(account.code_hash, keccak256([0x60, 0x01]));
        let code = prestate.code_by_hash_ref(account.code_hash).unwrap();
        assert_eq!(code.original_byte_slice(), [0x60, 0x01]);
    }
    let single = parse(&first).unwrap();
    assert_eq!(single.account(&address(A)).unwrap().nonce, 5);
}

#[test]
fn an_account_without_anything_is_absent() {
    let empty_hash = KECCAK_EMPTY.to_string();
    let prestate = parse(&json!({
        A: {},
        B: {"balance": "0x0", "nonce": 0, "code": "0x", "codeHash": empty_hash, "storage": {"0x1": "0x0"}},
        C: {"balance": null, "storage": {"0x1": "0x2"}},
    }))
    .unwrap();
    assert!(prestate.is_absent(&address(A)));
    assert!(prestate.is_absent(&address(B)));
    assert_eq!(slot(&prestate, C, 1), U256::from(2));
}

#[test]
fn accounts_that_the_block_created_are_absent() {
    // The first transaction funds B and creates C; empty before it, neither is listed there.
    let trace = json!([
        {"result": {A: {"balance": "0x64"}}},
        {"result": {A: {"balance": "0x5"}, B: {"balance": "0x9", "nonce": 1}, C: {"nonce": 1, "code": "0x00"}}},
    ]);
    let diff = json!([
        {"result": {"pre": {A: {"balance": "0x64"}},
                    "post": {A: {"balance": "0x5"}, B: {"balance": "0x9"}, C: {"nonce": 1}}}},
        {"result": {"pre": {B: {"balance": "0x9"}}, "post": {B: {"balance": "0x8"}, A: {"balance": "0x6"}}}},
    ]);
    let prestate = Prestate::from_prestate_and_diff_trace(
        trace.to_string().as_bytes(),
        diff.to_string().as_bytes(),
    )
    .unwrap();
    assert!(prestate.is_absent(&address(B)));
    assert!(prestate.is_absent(&address(C)));
    // Seen in existence before it was created (again).
    assert_eq!(prestate.account(&address(A)).unwrap().balance, U256::from(100));

    let broken = json!([{"result": {"pre": {}}}]);
    let error = Prestate::from_prestate_and_diff_trace(
        trace.to_string().as_bytes(),
        broken.to_string().as_bytes(),
    );
    assert_eq!(error.unwrap_err().to_string(), "prestate trace, transaction 0, post: is missing");
}

#[test]
fn errors_name_transaction_and_field() {
    let long = format!("0x1{}", "0".repeat(64));
    let cases = [
        (json!({A: {"balance": "12"}}), format!("{A}.balance: not a hex quantity")),
        (json!({A: {"balance": "0x"}}), format!("{A}.balance: not a hex quantity")),
        (json!({A: {"balance": "0x_1"}}), format!("{A}.balance: not a hex quantity")),
        (json!({A: {"balance": long}}), format!("{A}.balance: more than 256 bits")),
        (json!({A: {"nonce": "0x10000000000000000"}}), format!("{A}.nonce: more than 64 bits")),
        (json!({A: {"nonce": -1}}), format!("{A}.nonce: -1 is not a whole number of 64 bits")),
        (json!({A: {"nonce": []}}), format!("{A}.nonce: expected a quantity, got an array")),
        (json!({A: {"code": 1}}), format!("{A}.code: expected a string, got a number")),
        (json!({A: {"code": "0x0"}}), format!("{A}.code: odd number of digits")),
        (json!({A: {"codeHash": "0x0"}}), format!("{A}.codeHash: not a 32-byte hash")),
        (json!({A: {"storage": []}}), format!("{A}.storage: expected an object, got an array")),
        (json!({A: {"storage": {"x": "0x1"}}}), format!("{A}.storage.x: not a hex quantity")),
        (
            json!({A: {"storage": {"0x1": true}}}),
            format!("{A}.storage.0x1: expected a quantity, got a boolean"),
        ),
        (json!({A: 1}), format!("{A}: expected an object, got a number")),
        (json!({"0xaa": {}}), "0xaa: not an address".to_string()),
        (json!({"pre": {}, "post": {}}), "pre: the trace is in diff mode".to_string()),
        (json!({"error": "timeout"}), "error: tracing failed: \"timeout\"".to_string()),
        (json!({"result": []}), "result: expected an object, got an array".to_string()),
        (json!(5), "result: expected an object, got a number".to_string()),
    ];
    for (transaction, expected) in cases {
        let error = parse(&json!([{}, transaction])).unwrap_err().to_string();
        assert_eq!(error, format!("prestate trace, transaction 1, {expected}"));
    }
    let hash = B256::with_last_byte(1);
    let error = parse(&json!({A: {"code": "0x00", "codeHash": hash.to_string()}})).unwrap_err();
    assert_eq!(error, StateError::CodeHash { stated: hash, actual: keccak256([0x00]) });

    let failure = json!({"jsonrpc": "2.0", "error": {"code": -32000}});
    let error = parse(&failure).unwrap_err().to_string();
    assert_eq!(error, "prestate trace, the whole: an error response: {\"code\":-32000}");
    assert!(Prestate::from_prestate_trace(b"[{").is_err());
    assert!(parse(&json!("text")).is_err());
}
