//! Tiny contracts that do one delicate thing each, in bytecode, so that they run under every fork.

use alloy_primitives::{Address, Bytes, U256, hex};

/// A contract of the generated blocks, at a fixed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contract {
    /// Adds one to the slot named by the first argument.
    Counter,
    /// Moves an amount (third argument) from one slot (first) to another (second); fails if there
    /// is not enough. A token, a pool.
    Mover,
    /// Stores the beneficiary's balance.
    CoinbaseReader,
    /// Sends the value that it gets on to the beneficiary.
    CoinbasePayer,
    /// Stores the balance of the first argument.
    BalanceReader,
    /// Sends an amount (second argument) of its own to the first argument.
    Payer,
    /// Destroys itself in favour of the first argument.
    Destructible,
    /// CREATE2s a [`Contract::Destructible`] whose constructor writes a slot; salt is the first
    /// argument.
    Factory,
    /// The same, and calls the child at once, so that it is destroyed in its own transaction.
    EphemeralFactory,
    /// CREATEs, so that the address depends on the contract's nonce.
    NonceFactory,
    /// Stores code size, code hash and balance of the first argument.
    CodeReader,
    /// Stores its own balance, in a slot named by the first argument.
    SelfBalance,
}

/// Initialisation code: writes 42 to slot 7 and deploys `selfdestruct(calldata[0])`.
const CHILD_INIT: [u8; 18] = hex!("602a600755 63600035ff600052 6004601cf3");

impl Contract {
    pub(crate) const ALL: [Self; 12] = [
        Self::Counter,
        Self::Mover,
        Self::CoinbaseReader,
        Self::CoinbasePayer,
        Self::BalanceReader,
        Self::Payer,
        Self::Destructible,
        Self::Factory,
        Self::EphemeralFactory,
        Self::NonceFactory,
        Self::CodeReader,
        Self::SelfBalance,
    ];

    pub(crate) fn address(self) -> Address {
        Address::with_last_byte(0xC0 + self as u8)
    }

    pub(crate) fn code(self) -> Bytes {
        match self {
            Self::Counter => hex!("600035 80 54 6001 01 90 55 00").into(),
            // value; balance of the source; revert if less; subtract; add.
            Self::Mover => hex!(
                "604035 600035 54 8181 10 6020 57 81 90 03 600035 55 602035 54 01 602035 55 00
                 000000 5b 6000 6000 fd"
            )
            .into(),
            Self::CoinbaseReader => hex!("41 31 6000 55 00").into(),
            Self::CoinbasePayer => hex!("6000 6000 6000 6000 34 41 5a f1 6000 55 00").into(),
            Self::BalanceReader => hex!("600035 80 31 90 55 00").into(),
            Self::Payer => hex!("6000 6000 6000 6000 602035 600035 5a f1 6000 55 00").into(),
            Self::Destructible => hex!("600035 ff").into(),
            Self::Factory => Self::creating(&hex!("600035 6012 600e 6000 f5 6000 55 00")),
            Self::EphemeralFactory => Self::creating(&hex!(
                "600035 6012 600e 6000 f5
                 80 6000 55
                 6000 6000 6020 6000 6000 85 5a f1 6001 55 00"
            )),
            Self::NonceFactory => Self::creating(&hex!("6012 600e 6000 f0 600035 55 00")),
            Self::CodeReader => hex!("600035 80 3b 6001 55 80 3f 6002 55 31 6003 55 00").into(),
            Self::SelfBalance => hex!("47 600035 55 00").into(),
        }
    }

    /// Code that has [`CHILD_INIT`] in memory at 14 and goes on with `then`.
    fn creating(then: &[u8]) -> Bytes {
        let mut code = vec![0x71];
        code.extend(CHILD_INIT);
        code.extend(hex!("6000 52"));
        code.extend(then);
        code.into()
    }

    /// The address of the child that a factory makes with a salt.
    pub(crate) fn child(self, salt: u8) -> Address {
        self.address().create2_from_code(U256::from(salt).to_be_bytes::<32>(), CHILD_INIT)
    }
}

/// Calldata of plain words.
pub(crate) fn words(arguments: &[U256]) -> Bytes {
    arguments.iter().flat_map(|word| word.to_be_bytes::<32>()).collect::<Vec<_>>().into()
}

/// An address as an argument.
pub(crate) fn word(address: Address) -> U256 {
    U256::from_be_bytes(address.into_word().0)
}
