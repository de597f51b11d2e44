//! IPNS names.

use cid::Cid;
use libp2p::PeerId;
use libp2p::identity::Keypair;
use multibase::Base;

use crate::block::{LIBP2P_KEY, Multihash};

/// The IPNS name of a key: a CIDv1 of codec libp2p-key, shown in base36 (`k51…`).
pub fn name_of(key: &Keypair) -> Name {
    Name::of_peer(&key.public().to_peer_id())
}

/// An IPNS name: the multihash of a public key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Cid);

impl Name {
    /// The name of a peer's key.
    pub fn of_peer(peer: &PeerId) -> Self {
        let hash = Multihash::from_bytes(&peer.to_bytes())
            .expect("a peer id is a multihash of at most 42 bytes");
        Self(Cid::new_v1(LIBP2P_KEY, hash))
    }

    /// The name with this binary multihash, as [`Name::to_bytes`] gives it.
    ///
    /// # Errors
    /// When it is no multihash of a public key.
    pub fn from_bytes(multihash: &[u8]) -> Result<Self, cid::Error> {
        let peer = PeerId::from_bytes(multihash).map_err(|_| cid::Error::ParsingError)?;
        Ok(Self::of_peer(&peer))
    }

    /// The name as a CIDv1 of codec libp2p-key.
    pub fn cid(&self) -> &Cid {
        &self.0
    }

    /// The binary multihash: the DHT key without its `/ipns/` prefix.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.hash().to_bytes()
    }
}

impl std::str::FromStr for Name {
    type Err = cid::Error;

    /// Accepts any CID of a libp2p key in any base, and the older base58 peer ids.
    fn from_str(s: &str) -> Result<Self, cid::Error> {
        if s.starts_with("Qm") || s.starts_with('1') {
            let multihash = Base::Base58Btc
                .decode(s)
                .map_err(|_| cid::Error::ParsingError)?;
            return Self::from_bytes(&multihash);
        }
        let cid: Cid = s.parse()?;
        if cid.codec() != LIBP2P_KEY {
            return Err(cid::Error::UnknownCodec);
        }
        Self::from_bytes(&cid.hash().to_bytes())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.0.to_string_of_base(Base::Base36Lower);
        f.write_str(&name.map_err(|_| std::fmt::Error)?)
    }
}
