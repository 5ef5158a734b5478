//! [`Prestate`] from the output of geth's `prestateTracer`.
//!
//! The tracer states, for each transaction, the accounts and slots that the transaction touches
//! with their values *before that transaction*. What a block starts from is therefore the first
//! value seen of each account and slot. One trap: geth and its relatives leave out accounts that
//! were empty before the transaction, so an account that comes into being within the block first
//! shows up in a *later* transaction, with values that the block itself made. The tracer's diff mode
//! tells those accounts apart: they are in its `post` and not in its `pre`.
//!
//! This module knows JSON but no files, and nothing of the block that was traced.

use crate::{Prestate, PrestateAccount, StateError, analyse_code};
use alloy_primitives::{
    Address, B256, Bytes, U256, hex, keccak256,
    map::{AddressMap, hash_map::Entry},
};
use revm::primitives::KECCAK_EMPTY;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

impl Prestate {
    /// Merges the output of `prestateTracer` over the transactions of a block.
    ///
    /// Accepted are the result of `debug_traceBlockByNumber` (an array of `{txHash, result}` or
    /// `{result}`), an array of the plain objects, one such object, and each of these as the
    /// `result` of a whole JSON-RPC response. An account without balance, nonce, code and non-zero
    /// storage is absent. Codes are stored under their hash.
    ///
    /// Give the same block's trace in diff mode as well ([`Self::from_prestate_and_diff_trace`])
    /// unless no account that the block creates is used by a later transaction of it, or the
    /// tracer ran with `includeEmpty`.
    ///
    /// # Errors
    ///
    /// [`StateError::PrestateTrace`] naming transaction and field, [`StateError::CodeHash`] where
    /// the trace states a code hash beside a code that has another.
    pub fn from_prestate_trace(json: &[u8]) -> Result<Self, StateError> {
        Ok(TraceMerge::read(json)?.into_prestate())
    }

    /// As [`from_prestate_trace`](Self::from_prestate_trace), and takes the accounts that the block
    /// created, according to the tracer's diff-mode output for the same transactions, as absent.
    ///
    /// # Errors
    ///
    /// As for [`from_prestate_trace`](Self::from_prestate_trace); the field's path starts with
    /// `pre` or `post` where the diff is at fault.
    pub fn from_prestate_and_diff_trace(trace: &[u8], diff: &[u8]) -> Result<Self, StateError> {
        let mut merge = TraceMerge::read(trace)?;
        merge.exclude_created(diff)?;
        Ok(merge.into_prestate())
    }
}

/// The accounts of a trace so far: the first value of everything.
#[derive(Default)]
struct TraceMerge {
    accounts: AddressMap<FirstSeen>,
    codes: Vec<(B256, Bytes)>,
}

struct FirstSeen {
    transaction: usize,
    /// `None` for an account that did not exist when it was first seen. It has no storage then, and
    /// slots that later transactions show were written within the block.
    account: Option<PrestateAccount>,
}

impl TraceMerge {
    fn read(json: &[u8]) -> Result<Self, StateError> {
        let mut merge = Self::default();
        for (index, accounts) in transactions(json)?.into_iter().enumerate() {
            let place = Place { transaction: index };
            let is_diff = |name| accounts.get(name).is_some_and(Value::is_object);
            if is_diff("pre") && is_diff("post") {
                return Err(place.error("pre", "the trace is in diff mode"));
            }
            for (address, account) in &accounts {
                let parsed_address = place.address(address, address)?;
                merge.add(place, parsed_address, address, account)?;
            }
        }
        Ok(merge)
    }

    fn add(
        &mut self,
        place: Place,
        address: Address,
        path: &str,
        account: &Value,
    ) -> Result<(), StateError> {
        let account = place.object(path, account)?;
        // Parsed even where an earlier value stands, so that damage is reported wherever it is.
        let (mut parsed, code) = place.account(path, account)?;
        self.codes.extend(code.map(|code| (parsed.code_hash, code)));
        match self.accounts.entry(address) {
            Entry::Occupied(mut known) => {
                if let Some(known) = &mut known.get_mut().account {
                    // Each transaction lists every slot that it touches: a slot not seen so far was
                    // not written so far.
                    #[allow(clippy::iter_over_hash_type, reason = "the slots go into a map again")]
                    for (slot, value) in parsed.storage.drain() {
                        known.storage.entry(slot).or_insert(value);
                    }
                }
            }
            Entry::Vacant(unknown) => {
                let account = exists(&parsed).then_some(parsed);
                unknown.insert(FirstSeen { transaction: place.transaction, account });
            }
        }
        Ok(())
    }

    /// An account in `post` but not in `pre` was empty before that transaction. If no earlier
    /// transaction saw it in existence the block started without it.
    fn exclude_created(&mut self, diff: &[u8]) -> Result<(), StateError> {
        for (index, diff) in transactions(diff)?.iter().enumerate() {
            let place = Place { transaction: index };
            let side = |name| {
                let side = diff.get(name).ok_or_else(|| place.error(name, "is missing"))?;
                place.object(name, side)
            };
            let (pre, post) = (side("pre")?, side("post")?);
            for address in post.keys().filter(|address| !pre.contains_key(*address)) {
                let address = place.address(&format!("post.{address}"), address)?;
                let created = FirstSeen { transaction: index, account: None };
                match self.accounts.entry(address) {
                    Entry::Occupied(mut known) if known.get().transaction > index => {
                        known.insert(created);
                    }
                    Entry::Occupied(_) => {}
                    Entry::Vacant(unknown) => {
                        unknown.insert(created);
                    }
                }
            }
        }
        Ok(())
    }

    fn into_prestate(self) -> Prestate {
        let mut prestate = Prestate::new();
        #[allow(clippy::iter_over_hash_type, reason = "the accounts go into a map again")]
        for (address, FirstSeen { account, .. }) in self.accounts {
            match account {
                Some(account) => prestate.insert_account(address, account),
                None => prestate.insert_absent(address),
            }
        }
        for (hash, code) in self.codes {
            if !prestate.has_code(&hash) {
                prestate.insert_bytecode(hash, analyse_code(code));
            }
        }
        prestate
    }
}

/// Whether an account with these values exists: from EIP-161 on no empty one does.
fn exists(account: &PrestateAccount) -> bool {
    let PrestateAccount { balance, nonce, code_hash, storage } = account;
    !balance.is_zero()
        || *nonce != 0
        || *code_hash != KECCAK_EMPTY
        || storage.values().any(|value| !value.is_zero())
}

/// The tracer's object for each transaction, from any of the accepted forms.
fn transactions(json: &[u8]) -> Result<Vec<Object>, StateError> {
    let whole = |cause: String| StateError::PrestateTrace {
        transaction: None,
        field: "the whole".into(),
        cause,
    };
    let mut json: Value = serde_json::from_slice(json).map_err(|error| whole(error.to_string()))?;
    if json.get("jsonrpc").is_some() {
        json = match json.get_mut("result") {
            Some(result) => result.take(),
            None => return Err(whole(format!("an error response: {}", json["error"]))),
        };
    }
    let list = match json {
        Value::Array(list) => list,
        object @ Value::Object(_) => vec![object],
        other => return Err(whole(format!("expected an array or object, got {}", kind(&other)))),
    };
    list.into_iter().enumerate().map(|(index, item)| unwrap_result(index, item)).collect()
}

fn unwrap_result(index: usize, item: Value) -> Result<Object, StateError> {
    let place = Place { transaction: index };
    let Value::Object(mut item) = item else {
        return Err(place.error("result", format!("expected an object, got {}", kind(&item))));
    };
    if let Some(error) = item.get("error").filter(|error| !error.is_null()) {
        return Err(place.error("error", format!("tracing failed: {error}")));
    }
    match item.remove("result") {
        None => Ok(item),
        Some(Value::Object(result)) => Ok(result),
        Some(other) => {
            Err(place.error("result", format!("expected an object, got {}", kind(&other))))
        }
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The transaction that is being read, which every error names.
#[derive(Clone, Copy)]
struct Place {
    transaction: usize,
}

impl Place {
    fn error(self, field: impl Into<String>, cause: impl Into<String>) -> StateError {
        StateError::PrestateTrace {
            transaction: Some(self.transaction),
            field: field.into(),
            cause: cause.into(),
        }
    }

    fn object<'a>(self, field: &str, value: &'a Value) -> Result<&'a Object, StateError> {
        value
            .as_object()
            .ok_or_else(|| self.error(field, format!("expected an object, got {}", kind(value))))
    }

    fn address(self, field: &str, text: &str) -> Result<Address, StateError> {
        text.parse().map_err(|_| self.error(field, "not an address"))
    }

    /// An account, and its code where the trace has it.
    fn account(
        self,
        path: &str,
        account: &Object,
    ) -> Result<(PrestateAccount, Option<Bytes>), StateError> {
        let field = |name: &str| format!("{path}.{name}");
        let member = |name| account.get(name).filter(|value| !value.is_null());
        let quantity = |name| match member(name) {
            Some(value) => self.quantity(&field(name), value),
            None => Ok(U256::ZERO),
        };
        let balance = quantity("balance")?;
        let nonce = quantity("nonce")?
            .try_into()
            .map_err(|_| self.error(field("nonce"), "more than 64 bits"))?;
        let code = member("code").map(|value| self.bytes(&field("code"), value)).transpose()?;
        let code = code.filter(|code| !code.is_empty());
        let stated_hash = member("codeHash")
            .map(|value| self.hash(&field("codeHash"), value))
            .transpose()?
            // Some nodes state zero for an account that does not exist.
            .filter(|hash| !hash.is_zero());
        let code_hash = match (&code, stated_hash) {
            (Some(code), stated) => {
                let actual = keccak256(code);
                if let Some(stated) = stated.filter(|stated| *stated != actual) {
                    return Err(StateError::CodeHash { stated, actual });
                }
                actual
            }
            (None, stated) => stated.unwrap_or(KECCAK_EMPTY),
        };
        let mut parsed = PrestateAccount { balance, nonce, code_hash, ..Default::default() };
        if let Some(storage) = member("storage") {
            for (slot, value) in self.object(&field("storage"), storage)? {
                let path = format!("{path}.storage.{slot}");
                let slot = self.hex(&path, slot)?;
                parsed.storage.insert(slot, self.quantity(&path, value)?);
            }
        }
        Ok((parsed, code))
    }

    /// A number, or a hex string with or without leading zeros.
    fn quantity(self, field: &str, value: &Value) -> Result<U256, StateError> {
        match value {
            Value::String(text) => self.hex(field, text),
            Value::Number(number) => number.as_u64().map(U256::from).ok_or_else(|| {
                self.error(field, format!("{number} is not a whole number of 64 bits"))
            }),
            other => Err(self.error(field, format!("expected a quantity, got {}", kind(other)))),
        }
    }

    fn hex(self, field: &str, text: &str) -> Result<U256, StateError> {
        let digits = text.strip_prefix("0x").filter(|digits| !digits.is_empty());
        let digits = digits.ok_or_else(|| self.error(field, "not a hex quantity"))?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(self.error(field, "not a hex quantity"));
        }
        U256::from_str_radix(digits, 16).map_err(|_| self.error(field, "more than 256 bits"))
    }

    fn text(self, field: &str, value: &Value) -> Result<String, StateError> {
        let text = value.as_str().map(ToOwned::to_owned);
        text.ok_or_else(|| self.error(field, format!("expected a string, got {}", kind(value))))
    }

    fn bytes(self, field: &str, value: &Value) -> Result<Bytes, StateError> {
        let text = self.text(field, value)?;
        let bytes = hex::decode(text).map_err(|error| self.error(field, error.to_string()))?;
        Ok(bytes.into())
    }

    fn hash(self, field: &str, value: &Value) -> Result<B256, StateError> {
        let text = self.text(field, value)?;
        text.parse().map_err(|_| self.error(field, "not a 32-byte hash"))
    }
}

#[cfg(test)]
mod tests;
