//! Transactions as revm takes them.

use crate::{
    parallel_map::{parallel_map, parallel_map_with},
    workers::Workers,
};
use alloy_consensus::{Transaction, TxEip7702, TxEnvelope, transaction::Recovered};
use alloy_eips::eip7702::SignedAuthorization;
use alloy_evm::{FromRecoveredTx, RecoveredTx};
use alloy_primitives::Address;
use revm::context::TxEnv;

/// With fewer authorizations, waking other threads costs more than it saves.
const AUTHORIZATIONS_MIN: usize = 8;

/// A transaction as revm takes it.
pub(crate) fn tx_env<T>(tx: &Recovered<T>) -> TxEnv
where
    TxEnv: FromRecoveredTx<T>,
{
    TxEnv::from_recovered_tx(tx.tx(), *RecoveredTx::signer(tx))
}

/// The transactions of a block as revm takes them.
///
/// Part of that is to recover who has signed each authorization (EIP-7702). It takes as long as a
/// small transaction, and one transaction may bring hundreds of them.
pub(crate) fn tx_envs(workers: Workers<'_>, transactions: &[Recovered<TxEnvelope>]) -> Vec<TxEnv> {
    let authorizations: Vec<_> =
        transactions.iter().filter_map(|tx| tx.authorization_list()).flatten().collect();
    if authorizations.len() < AUTHORIZATIONS_MIN {
        return parallel_map(workers, transactions, |_, tx| tx_env(tx));
    }
    // Each as that of a transaction with nothing else.
    let recover = |(): &mut (), _, authorization: &&SignedAuthorization| {
        let authorization_list = vec![(*authorization).clone()];
        let alone = TxEip7702 { authorization_list, ..TxEip7702::default() };
        TxEnv::from_recovered_tx(&alone, Address::ZERO).authorization_list
    };
    let mut recovered =
        parallel_map_with(workers, AUTHORIZATIONS_MIN, &authorizations, || (), recover).into_iter();
    let convert = |tx: &Recovered<TxEnvelope>| {
        let TxEnvelope::Eip7702(signed) = tx.inner() else { return tx_env(tx) };
        let mut rest = signed.tx().clone();
        let own = recovered.by_ref().take(std::mem::take(&mut rest.authorization_list).len());
        TxEnv {
            authorization_list: own.flatten().collect(),
            ..TxEnv::from_recovered_tx(&rest, tx.signer())
        }
    };
    transactions.iter().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{Signed, TxLegacy};
    use alloy_eips::eip7702::Authorization;
    use alloy_primitives::{Bytes, Signature, U256};

    const SIGNATURE: Signature = Signature::new(U256::ONE, U256::ONE, false);

    fn delegations(authorizations: u64) -> Recovered<TxEnvelope> {
        let authorization = |nonce| {
            let inner = Authorization { chain_id: U256::ONE, address: Address::ZERO, nonce };
            // One in three that nobody can have signed.
            let s = if nonce % 3 == 0 { U256::MAX } else { U256::ONE };
            SignedAuthorization::new_unchecked(inner, 0, U256::ONE, s)
        };
        let tx = TxEip7702 {
            authorization_list: (0..authorizations).map(authorization).collect(),
            input: Bytes::from_static(&[1, 2]),
            gas_limit: 7,
            ..TxEip7702::default()
        };
        let signed = Signed::new_unhashed(tx, SIGNATURE);
        Recovered::new_unchecked(signed.into(), Address::with_last_byte(3))
    }

    #[test]
    fn authorizations_go_back_to_their_transactions() {
        let legacy = Signed::new_unhashed(TxLegacy::default(), SIGNATURE);
        let other: Recovered<TxEnvelope> =
            Recovered::new_unchecked(legacy.into(), Address::with_last_byte(4));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let workers = Workers::for_this_thread(&pool, 3);
        for number in [0, 1, 9] {
            let block = [delegations(number), other.clone(), delegations(2 * number)];
            let expected: Vec<_> = block.iter().map(tx_env).collect();
            assert_eq!(tx_envs(workers, &block), expected);
        }
    }
}
