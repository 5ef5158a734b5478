//! Which alloy-evm factories fit.

use alloy_consensus::{Transaction, TransactionEnvelope};
use alloy_eips::Encodable2718;
use alloy_evm::{EvmFactory, block::BlockExecutorFactory, eth::EthTxResult};
use revm::{
    context::{BlockEnv, TxEnv},
    context_interface::result::HaltReason,
    primitives::hardfork::SpecId,
};

/// A [`BlockExecutorFactory`] whose transactions, results and EVM have Ethereum's types.
///
/// Every factory that has them is one: there is nothing to implement. A transaction's type has to be
/// `Send` and `'static`, and a [`TxEnv`] is made of a transaction.
pub trait EthereumFactory:
    BlockExecutorFactory<
        Transaction: TransactionEnvelope<TxType: Send + 'static> + Transaction + Encodable2718,
        TxExecutionResult = EthTxResult<HaltReason, TxTypeOf<Self>>,
        EvmFactory: EvmFactory<
            Tx = TxEnv,
            HaltReason = HaltReason,
            Spec = SpecId,
            BlockEnv = BlockEnv,
        >,
    >
{
}

/// The type of the types of a factory's transactions.
type TxTypeOf<F> = <<F as BlockExecutorFactory>::Transaction as TransactionEnvelope>::TxType;

impl<F> EthereumFactory for F where
    F: BlockExecutorFactory<
            Transaction: TransactionEnvelope<TxType: Send + 'static> + Transaction + Encodable2718,
            TxExecutionResult = EthTxResult<HaltReason, TxTypeOf<F>>,
            EvmFactory: EvmFactory<
                Tx = TxEnv,
                HaltReason = HaltReason,
                Spec = SpecId,
                BlockEnv = BlockEnv,
            >,
        >
{
}
