//! The analyzer: what will each transaction touch?
//!
//! A prediction is advice. It decides what waits for what, never what a result is: an empty or a
//! hostile prediction costs time only.
//!
//! *Must not know*: values of state. It looks at transactions alone.

mod declared;
mod inferred;
mod learned;

use alloy_primitives::Address;
use core::{
    fmt,
    hash::{Hash, Hasher},
};
pub(crate) use inferred::TRANSFER_GAS;
pub use learned::{
    AccessKind, LearnedAccess, LearnedPrediction, Profile, ProfileError, ProfilePredictor,
};
pub(crate) use learned::{
    BlockPredictions, CONTENTION_NEAR, Contention, Foreseen, Learner, excerpt,
};
use multilane_state::{StateLocation, TxIndex};
use revm::{
    context::TxEnv,
    context_interface::Transaction,
    primitives::{TxKind, map::AddressMap},
};

/// What one transaction is expected to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessPrediction {
    /// Expected accesses on which transactions could conflict.
    pub accesses: Vec<PredictedAccess>,
    /// Expected gas.
    pub gas: u64,
}

/// One expected access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictedAccess {
    /// What is accessed.
    pub location: PredictedLocation,
    /// Whether the value there is read.
    pub reads: bool,
    /// Whether the value there is written.
    pub writes: bool,
}

/// Something that transactions could conflict on.
///
/// Where a contract keeps a token balance is not known from the calldata alone, but that two calls
/// mean the same balance is; so a prediction may name the thing instead of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PredictedLocation {
    /// A location by its full key.
    State(StateLocation),
    /// The balance of a holder in a token contract (ERC-20).
    TokenBalance {
        /// The token contract.
        token: Address,
        /// Whose balance.
        holder: Address,
    },
    /// What a spender may take from an owner in a token contract (ERC-20).
    TokenAllowance {
        /// The token contract.
        token: Address,
        /// Whose tokens.
        owner: Address,
        /// Who may take them.
        spender: Address,
    },
    /// Whatever a contract keeps about one of its callers.
    CallerState {
        /// The contract.
        contract: Address,
        /// The caller.
        caller: Address,
    },
}

impl fmt::Display for PredictedLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(location) => location.fmt(f),
            Self::TokenBalance { token, holder } => write!(f, "balance of {holder} in {token}"),
            Self::TokenAllowance { token, owner, spender } => {
                write!(f, "allowance of {owner} to {spender} in {token}")
            }
            Self::CallerState { contract, caller } => {
                write!(f, "what {contract} keeps about {caller}")
            }
        }
    }
}

impl AccessPrediction {
    /// How much a transaction does, and nothing about where.
    pub(crate) fn of_gas(tx: &TxEnv) -> Self {
        Self { accesses: Vec::new(), gas: inferred::gas(tx) }
    }

    fn add(&mut self, location: PredictedLocation, reads: bool, writes: bool) {
        self.accesses.push(PredictedAccess { location, reads, writes });
    }
}

/// The executor's own predictor, prepared for one block.
#[derive(Debug)]
pub struct Analyzer {
    code_writers: AddressMap<TxIndex>,
    balances_commute: bool,
}

impl Analyzer {
    /// Prepares the analysis of a block.
    ///
    /// `balances_commute` says whether payments to and from one account can go in any order, as
    /// they can where the executor validates balances by what was needed of them.
    pub fn new(transactions: &[TxEnv], balances_commute: bool) -> Self {
        Self { code_writers: inferred::code_writers(transactions), balances_commute }
    }

    /// Predicts the accesses of the transaction at a position.
    pub fn predict(&self, index: TxIndex, tx: &TxEnv) -> AccessPrediction {
        let mut prediction = AccessPrediction { accesses: Vec::new(), gas: inferred::gas(tx) };
        declared::access_list(tx, &mut prediction);
        inferred::accounts(tx, self.balances_commute, &mut prediction);
        inferred::call(tx, &mut prediction);
        inferred::code(index, tx, &self.code_writers, &mut prediction);
        prediction
    }

    /// As [`predict`](Self::predict), with the slots of `contended` after the accesses that are
    /// predicted without it.
    pub(crate) fn predict_with(
        &self,
        index: TxIndex,
        tx: &TxEnv,
        contended: &LearnedPrediction,
    ) -> AccessPrediction {
        let mut prediction = self.predict(index, tx);
        add_slots(contended, &mut prediction);
        prediction
    }

    /// As [`predict`](Self::predict), with what was learned about the called function in place of
    /// what its name suggests.
    pub fn predict_learned(
        &self,
        index: TxIndex,
        tx: &TxEnv,
        learned: &LearnedPrediction,
    ) -> AccessPrediction {
        let mut prediction = AccessPrediction { accesses: Vec::new(), gas: inferred::gas(tx) };
        declared::access_list(tx, &mut prediction);
        inferred::accounts(tx, self.balances_commute, &mut prediction);
        add_slots(learned, &mut prediction);
        inferred::code(index, tx, &self.code_writers, &mut prediction);
        prediction
    }
}

/// Adds the slots that a profile expects to be accessed. Accounts have been dealt with, or do not
/// conflict.
fn add_slots(learned: &LearnedPrediction, prediction: &mut AccessPrediction) {
    prediction.accesses.reserve(learned.accesses.len());
    for access in &learned.accesses {
        // A slot is read before it is written: what a write costs depends on it.
        if let StateLocation::Slot(..) = access.location {
            prediction.add(PredictedLocation::State(access.location), true, access.writes());
        }
    }
}

/// Predicts the accesses of a block's transactions. See [`Analyzer`].
pub fn analyze(transactions: &[TxEnv], balances_commute: bool) -> Vec<AccessPrediction> {
    let analyzer = Analyzer::new(transactions, balances_commute);
    let predict = |(index, tx)| analyzer.predict(TxIndex::new(index), tx);
    transactions.iter().enumerate().map(predict).collect()
}

/// The nonces that senders of several transactions will have, which follow from the block's order.
#[derive(Debug, Default)]
pub(crate) struct SenderNonces(AddressMap<Vec<(TxIndex, u64)>>);

impl SenderNonces {
    pub(crate) fn of(transactions: &[TxEnv]) -> Self {
        let mut first = AddressMap::default();
        first.reserve(transactions.len());
        let mut repeated = AddressMap::<Vec<(TxIndex, u64)>>::default();
        for (index, tx) in transactions.iter().enumerate() {
            let here = (TxIndex::new(index), tx.nonce());
            if let Some(before) = first.insert(tx.caller(), here) {
                repeated.entry(tx.caller()).or_insert_with(|| vec![before]).push(here);
            }
        }
        Self(repeated)
    }

    /// The nonce that an account will have when `reader` starts, where earlier transactions of the
    /// block tell.
    pub(crate) fn before(&self, address: Address, reader: TxIndex) -> Option<u64> {
        if self.0.is_empty() {
            return None;
        }
        let sent = self.0.get(&address)?;
        let earlier = sent.partition_point(|(index, _)| *index < reader);
        sent[..earlier].last().and_then(|(_, nonce)| nonce.checked_add(1))
    }
}

/// A called account, and the selector if the calldata has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    to: Address,
    selector: Option<[u8; 4]>,
}

impl Hash for Function {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // Locations are hashed fast.
        StateLocation::Account(self.to).hash(hasher);
        hasher.write_u32(self.selector.map_or(0, u32::from_ne_bytes));
    }
}

/// The function that a transaction calls, if it is no creation.
fn function_of(tx: &TxEnv) -> Option<Function> {
    callee(tx).map(|to| Function { to, selector: inferred::selector(tx) })
}

/// The contract and the selector of a call that has one.
pub(crate) fn call_of(tx: &TxEnv) -> Option<(Address, [u8; 4])> {
    function_of(tx).and_then(|Function { to, selector }| Some((to, selector?)))
}

/// The account that a transaction calls, if it is no creation.
fn callee(tx: &TxEnv) -> Option<Address> {
    match tx.kind() {
        TxKind::Call(to) => Some(to),
        TxKind::Create => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Bytes, U256, hex};

    pub(super) fn call(from: u8, to: u8, data: impl Into<Bytes>) -> TxEnv {
        TxEnv {
            caller: Address::with_last_byte(from),
            kind: TxKind::Call(Address::with_last_byte(to)),
            data: data.into(),
            gas_limit: 100_000,
            ..TxEnv::default()
        }
    }

    fn transfer_data(to: u8) -> Vec<u8> {
        let mut data = hex!("a9059cbb").to_vec();
        data.extend(Address::with_last_byte(to).into_word());
        data.extend(U256::from(5).to_be_bytes::<32>());
        data
    }

    #[test]
    fn plain_transfers_touch_nothing_that_conflicts() {
        let payment = TxEnv { value: U256::ONE, ..call(1, 2, Bytes::new()) };
        let block = [payment];
        assert!(analyze(&block, true)[0].accesses.is_empty());
        assert_eq!(analyze(&block, false)[0].accesses.len(), 2);
    }

    #[test]
    fn a_token_transfer_touches_both_balances() {
        let predictions = analyze(&[call(1, 9, transfer_data(2))], true);
        let holders: Vec<_> = predictions[0]
            .accesses
            .iter()
            .filter_map(|access| match access.location {
                PredictedLocation::TokenBalance { holder, .. } => Some(holder),
                _ => None,
            })
            .collect();
        assert_eq!(holders, [Address::with_last_byte(1), Address::with_last_byte(2)]);
    }

    #[test]
    fn calls_of_a_contract_created_before_read_its_code() {
        let creation = TxEnv { kind: TxKind::Create, nonce: 3, ..call(1, 0, vec![0]) };
        let created = Address::with_last_byte(1).create(3);
        let visit = TxEnv { kind: TxKind::Call(created), ..call(2, 0, Bytes::new()) };
        let code = PredictedLocation::State(StateLocation::Code(created));
        let predictions = analyze(&[visit.clone(), creation, visit], true);
        let accesses: Vec<Vec<_>> = predictions
            .iter()
            .map(|p| p.accesses.iter().filter(|a| a.location == code).copied().collect())
            .collect();
        assert_eq!(accesses[0], []);
        assert!(accesses[1][0].writes);
        assert!(accesses[2][0].reads && !accesses[2][0].writes);
    }

    #[test]
    fn nonces_follow_from_the_order_of_the_block() {
        let transactions: Vec<_> = [(1, 7), (2, 0), (1, 8), (1, 9)]
            .map(|(from, nonce)| TxEnv { nonce, ..call(from, 5, Bytes::new()) })
            .into();
        let nonces = SenderNonces::of(&transactions);
        let before =
            |from, reader| nonces.before(Address::with_last_byte(from), TxIndex::new(reader));
        assert_eq!(
            [before(1, 0), before(1, 1), before(1, 2), before(1, 3)],
            [None, Some(8), Some(8), Some(9)]
        );
        assert_eq!(before(2, 3), None);
    }
}
