//! Results of precompiles, kept while a block runs.
//!
//! Proofs and signatures take the time of thousands of other instructions, far more than their gas
//! says, and seldom depend on what earlier transactions did. So an execution that does not stand has
//! mostly computed what its repetition asks for again, and the repetition gets it from here.

use alloy_evm::precompiles::{DynPrecompile, Precompile, PrecompileInput, PrecompilesMap};
use alloy_primitives::{Address, Bytes};
use dashmap::DashMap;
use revm::{
    precompile::{PrecompileId, PrecompileOutput},
    primitives::map::DefaultHashBuilder,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// What precompiles made of their inputs. Shared by the workers of a block.
///
/// It takes no more memory than the inputs, which are paid for in gas.
#[derive(Debug, Default)]
pub(crate) struct PrecompileResults(
    DashMap<(Address, Bytes), PrecompileOutput, DefaultHashBuilder>,
);

impl PrecompileResults {
    /// Lets precompiles look here before they compute. The flag is raised whenever one does.
    pub(super) fn install(self: &Arc<Self>, precompiles: &mut PrecompilesMap) -> Arc<AtomicBool> {
        let looked = Arc::new(AtomicBool::new(false));
        precompiles.map_cacheable_precompiles(|address, precompile| {
            if !is_worth_keeping(precompile.precompile_id()) {
                return precompile;
            }
            let (results, looked) = (Arc::clone(self), Arc::clone(&looked));
            let address = *address;
            let id = precompile.precompile_id().clone();
            DynPrecompile::new(id, move |input: PrecompileInput<'_>| {
                // Relaxed: each worker has a flag of its own.
                looked.store(true, Ordering::Relaxed);
                let key = (address, Bytes::copy_from_slice(input.data));
                // With less gas than it takes, the precompile finds out by itself.
                if let Some(known) = results.0.get(&key)
                    && known.gas_used <= input.gas
                {
                    return Ok(PrecompileOutput { reservoir: input.reservoir, ..known.clone() });
                }
                let output = precompile.call(input)?;
                if output.status.is_success() && output.state_gas_used == 0 {
                    results.0.insert(key, output.clone());
                }
                Ok(output)
            })
        });
        looked
    }
}

/// Whether computing takes much longer than looking up. Hash functions are as fast over their whole
/// input as the table's own.
const fn is_worth_keeping(id: &PrecompileId) -> bool {
    !matches!(id, PrecompileId::Identity | PrecompileId::Sha256 | PrecompileId::Ripemd160)
}
