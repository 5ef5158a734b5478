//! Read-only parent state.

use crate::{StateError, StateLocation, analyse_code};
use alloy_primitives::{
    Address, B256, U256,
    map::{AddressMap, AddressSet, B256Map, HashMap},
};
use revm::{
    DatabaseRef,
    primitives::KECCAK_EMPTY,
    state::{AccountInfo, Bytecode},
};

/// The state before a block, as far as a source knows it.
///
/// A prestate is *partial*: it holds what one block needs. Reading an account that it neither
/// holds nor knows to be absent is a [`StateError::Missing`], so that an incomplete source is
/// reported and never mistaken for empty state. Within a held account an unlisted slot is zero.
#[derive(Clone, Debug, Default)]
pub struct Prestate {
    accounts: AddressMap<PrestateAccount>,
    absent: AddressSet,
    codes: B256Map<Bytecode>,
    block_hashes: HashMap<u64, B256>,
}

/// One account of a [`Prestate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrestateAccount {
    /// Balance in wei.
    pub balance: U256,
    /// Nonce.
    pub nonce: u64,
    /// keccak-256 of the code; [`KECCAK_EMPTY`] where there is none.
    pub code_hash: B256,
    /// Known slots. A slot that is not listed is zero.
    pub storage: HashMap<U256, U256>,
}

impl Default for PrestateAccount {
    fn default() -> Self {
        Self { balance: U256::ZERO, nonce: 0, code_hash: KECCAK_EMPTY, storage: HashMap::default() }
    }
}

impl Prestate {
    /// An empty prestate, in which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces an account.
    pub fn insert_account(&mut self, address: Address, account: PrestateAccount) {
        self.absent.remove(&address);
        self.accounts.insert(address, account);
    }

    /// Notes that an account does not exist.
    pub fn insert_absent(&mut self, address: Address) {
        if !self.accounts.contains_key(&address) {
            self.absent.insert(address);
        }
    }

    /// Adds code, analysed once here and shared from then on. Returns its keccak-256.
    pub fn insert_code(&mut self, code: impl Into<alloy_primitives::Bytes>) -> B256 {
        let code = analyse_code(code.into());
        let hash = code.hash_slow();
        self.codes.insert(hash, code);
        hash
    }

    /// Adds code that is already analysed, under its hash.
    pub fn insert_bytecode(&mut self, hash: B256, code: Bytecode) {
        self.codes.insert(hash, code);
    }

    /// Notes the hash of a block, for BLOCKHASH.
    pub fn insert_block_hash(&mut self, number: u64, hash: B256) {
        self.block_hashes.insert(number, hash);
    }

    /// Adds what another prestate knows and this one does not: accounts, slots, codes and block
    /// hashes. Where the two differ, this one's values stay; an account that exists in either one
    /// does in the sum.
    #[expect(clippy::iter_over_hash_type, reason = "maps are filled, in whatever order")]
    pub fn complete_with(&mut self, other: &Self) {
        for (address, account) in &other.accounts {
            match self.accounts.get_mut(address) {
                None => self.insert_account(*address, account.clone()),
                Some(held) => {
                    for (slot, value) in &account.storage {
                        held.storage.entry(*slot).or_insert(*value);
                    }
                }
            }
        }
        other.absent.iter().for_each(|address| self.insert_absent(*address));
        for (hash, code) in &other.codes {
            self.codes.entry(*hash).or_insert_with(|| code.clone());
        }
        for (number, hash) in &other.block_hashes {
            self.block_hashes.entry(*number).or_insert(*hash);
        }
    }

    /// The account at an address, if the prestate holds one.
    pub fn account(&self, address: &Address) -> Option<&PrestateAccount> {
        self.accounts.get(address)
    }

    /// Whether the account is known not to exist.
    pub fn is_absent(&self, address: &Address) -> bool {
        self.absent.contains(address)
    }

    /// Every held account, in no particular order.
    pub fn accounts(&self) -> impl Iterator<Item = (&Address, &PrestateAccount)> {
        self.accounts.iter()
    }

    /// Every address that is known not to exist, in no particular order.
    pub fn absent(&self) -> impl Iterator<Item = &Address> {
        self.absent.iter()
    }

    /// Every known block hash by number, in no particular order.
    pub fn block_hashes(&self) -> impl Iterator<Item = (u64, B256)> + '_ {
        self.block_hashes.iter().map(|(number, hash)| (*number, *hash))
    }

    /// Whether the prestate holds code with this hash.
    pub fn has_code(&self, hash: &B256) -> bool {
        self.codes.contains_key(hash)
    }
}

impl DatabaseRef for Prestate {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        if let Some(account) = self.accounts.get(&address) {
            let code = (account.code_hash == KECCAK_EMPTY).then(Bytecode::default);
            return Ok(Some(AccountInfo {
                balance: account.balance,
                nonce: account.nonce,
                code_hash: account.code_hash,
                account_id: None,
                code,
            }));
        }
        if self.absent.contains(&address) {
            return Ok(None);
        }
        Err(StateError::Missing(StateLocation::Account(address)))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, StateError> {
        if code_hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        self.codes.get(&code_hash).cloned().ok_or(StateError::MissingCode(code_hash))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        match self.accounts.get(&address) {
            Some(account) => Ok(account.storage.get(&slot).copied().unwrap_or_default()),
            None if self.absent.contains(&address) => Ok(U256::ZERO),
            None => Err(StateError::Missing(StateLocation::Slot(address, slot))),
        }
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.block_hashes.get(&number).copied().ok_or(StateError::MissingBlockHash(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_prestate_lacks_another_one_adds() {
        let address = Address::with_last_byte;
        let account = |nonce, slots: &[(u64, u64)]| PrestateAccount {
            nonce,
            storage: slots.iter().map(|(k, v)| (U256::from(*k), U256::from(*v))).collect(),
            ..Default::default()
        };
        let [mut first, mut second] = [Prestate::new(), Prestate::new()];
        first.insert_account(address(1), account(1, &[(1, 10)]));
        first.insert_absent(address(2));
        second.insert_account(address(1), account(9, &[(1, 90), (2, 20)]));
        second.insert_account(address(2), account(2, &[]));
        second.insert_absent(address(3));
        let code = second.insert_code(vec![0]);
        second.insert_block_hash(7, B256::repeat_byte(7));
        first.complete_with(&second);

        assert_eq!(first.account(&address(1)), Some(&account(1, &[(1, 10), (2, 20)])));
        assert_eq!(first.account(&address(2)), Some(&account(2, &[])));
        assert!(first.is_absent(&address(3)) && !first.is_absent(&address(2)));
        assert!(first.has_code(&code));
        assert_eq!(first.block_hash_ref(7).unwrap(), B256::repeat_byte(7));
    }

    #[test]
    fn what_is_not_known_is_an_error_and_not_empty() {
        let mut prestate = Prestate::new();
        let (held, absent, unknown) =
            (Address::with_last_byte(1), Address::with_last_byte(2), Address::with_last_byte(3));
        prestate.insert_account(held, PrestateAccount { nonce: 7, ..Default::default() });
        prestate.insert_absent(absent);
        prestate.insert_absent(held);

        assert_eq!(prestate.basic_ref(held).unwrap().unwrap().nonce, 7);
        assert_eq!(prestate.basic_ref(absent).unwrap(), None);
        assert_eq!(
            prestate.basic_ref(unknown).unwrap_err(),
            StateError::Missing(StateLocation::Account(unknown))
        );
        assert_eq!(prestate.storage_ref(held, U256::ONE).unwrap(), U256::ZERO);
        assert!(prestate.storage_ref(unknown, U256::ONE).is_err());
        assert!(prestate.block_hash_ref(1).is_err());
        assert!(prestate.code_by_hash_ref(B256::with_last_byte(1)).is_err());
    }

    #[test]
    fn code_is_stored_under_its_hash() {
        let mut prestate = Prestate::new();
        let hash = prestate.insert_code(vec![0x60, 0x01, 0x00]);
        assert_eq!(hash, alloy_primitives::keccak256([0x60, 0x01, 0x00]));
        assert_eq!(prestate.code_by_hash_ref(hash).unwrap().original_byte_slice(), [0x60, 1, 0]);
    }

    #[test]
    fn code_that_starts_like_a_delegation_is_kept_as_it_is() {
        for code in [vec![0xef, 0x01], vec![0xef, 0x01, 0x00, 0x55], vec![0xef, 0x01, 0x01, 0x00]] {
            let mut prestate = Prestate::new();
            let hash = prestate.insert_code(code.clone());
            assert_eq!(hash, alloy_primitives::keccak256(&code));
            assert_eq!(prestate.code_by_hash_ref(hash).unwrap().original_byte_slice(), code);
        }
    }
}
