//! The parts that Noise is made of here: X25519, ChaCha20-Poly1305 and SHA-256 of the generation that the heartbeat is sealed
//! with, and entropy that was passed in. Glue only; RFC 7748, RFC 8439, FIPS 180-4; Noise sections 12.3 and 12.5.

use alloc::boxed::Box;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use sha2::{Digest, Sha256};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

const TAG_BYTES: usize = 16;

/// Finds the parts for snow, for one handshake.
pub(crate) struct Resolver(Zeroizing<[u8; 32]>);

impl Resolver {
    /// With fresh random bytes, of which the ephemeral key is made.
    pub(crate) fn new(entropy: [u8; 32]) -> Self {
        Self(Zeroizing::new(entropy))
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.0.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => {
                Some(Box::new(Curve { private: Zeroizing::new([0; 32]), public: [0; 32] }))
            }
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::SHA256 => Some(Box::new(Sha256Hash(Sha256::new()))),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly(Zeroizing::new([0; 32])))),
            _ => None,
        }
    }
}

/// Gives its bytes once: two keys of the same bytes would be a fault.
struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let bytes = self.0.take().ok_or(Error::Rng)?;
        out.copy_from_slice(bytes.get(..out.len()).ok_or(Error::Rng)?);
        Ok(())
    }
}

struct Curve {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        self.private.copy_from_slice(private);
        self.public = x25519(*self.private, X25519_BASEPOINT_BYTES);
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        let mut private = Zeroizing::new([0; 32]);
        random.try_fill_bytes(private.as_mut_slice())?;
        self.set(private.as_slice());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.private.as_slice()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = public.first_chunk().ok_or(Error::Dh)?;
        out[..32].copy_from_slice(&x25519(*self.private, *public));
        Ok(())
    }
}

struct ChaChaPoly(Zeroizing<[u8; 32]>);

impl ChaChaPoly {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(*self.0))
    }
}

/// Four zero bytes and the counter, little-endian.
fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::from(nonce)
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        *self.0 = *key;
    }

    fn encrypt(&self, counter: u64, known: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        let (sealed, rest) = out.split_at_mut(plain.len());
        sealed.copy_from_slice(plain);
        let tag = self
            .cipher()
            .encrypt_inout_detached(&nonce(counter), known, sealed.into())
            .expect("ChaCha20-Poly1305 refuses only messages of 256 GiB");
        rest[..TAG_BYTES].copy_from_slice(&tag);
        plain.len() + TAG_BYTES
    }

    fn decrypt(&self, counter: u64, known: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let (sealed, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Error::Decrypt)?;
        let plain = out.get_mut(..sealed.len()).ok_or(Error::Decrypt)?;
        plain.copy_from_slice(sealed);
        self.cipher()
            .decrypt_inout_detached(&nonce(counter), known, plain.into(), &Tag::from(*tag))
            .map_err(|_| Error::Decrypt)?;
        Ok(sealed.len())
    }
}

struct Sha256Hash(Sha256);

impl Hash for Sha256Hash {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Sha256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.0.finalize_reset());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;
    use snow::Builder;

    /// Handshake and transport messages of the vector `Noise_NNpsk0_25519_ChaChaPoly_SHA256` of the cacophony collection:
    /// payload and what must travel, in turns, the caller first.
    const VECTOR: [(&str, &str); 6] = [
        (
            "4c756477696720766f6e204d69736573",
            "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c794479b962b8aff8485742ac32f905ba45369e2465fb59e138a93d67a0d1266b6a54",
        ),
        (
            "4d757272617920526f746862617264",
            "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843d6062704d5a9c422a8e834423f8c1feada7e8d0d910a1a2cd030fb584221e3",
        ),
        ("462e20412e20486179656b", "e632c3763d7669067383433197a3baddf146e9e70ad4b4e9e59e0f"),
        ("4361726c204d656e676572", "64c6bee32ea91c8474bb4c21d7a700109ad45af77b29764ba5eb1e"),
        (
            "4a65616e2d426170746973746520536179",
            "e2fa0bed0603b62d3ccac2ecabbf3fe33f3e86514909b323361626266cb2471cc8",
        ),
        (
            "457567656e2042f6686d20766f6e2042617765726b",
            "0c01dc9cec1fe4ddd692e8dd32188aa351088dc91183639a53b57aa4692b5ebdef8b8ca111",
        ),
    ];
    const PSK: &[u8; 32] = b"This is my Austrian perspective!";
    const PROLOGUE: &[u8] = b"John Galt";
    const CALLER: &str = "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a";
    const ANSWERER: &str = "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b";

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |c: u8| char::from(c).to_digit(16).unwrap() as u8;
        hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_parts_make_the_noise_that_others_make() {
        let builder = |ephemeral: &str| {
            let resolver = Resolver::new(bytes(ephemeral).try_into().unwrap());
            let pattern = "Noise_NNpsk0_25519_ChaChaPoly_SHA256".parse().unwrap();
            let builder = Builder::with_resolver(pattern, Box::new(resolver));
            builder.psk(0, PSK).unwrap().prologue(PROLOGUE).unwrap()
        };
        let mut caller = builder(CALLER).build_initiator().unwrap();
        let mut answerer = builder(ANSWERER).build_responder().unwrap();
        let (mut out, mut back) = ([0; 256], [0; 256]);
        let n = caller.write_message(&bytes(VECTOR[0].0), &mut out).unwrap();
        assert_eq!(hex(&out[..n]), VECTOR[0].1);
        answerer.read_message(&out[..n], &mut back).unwrap();
        let n = answerer.write_message(&bytes(VECTOR[1].0), &mut out).unwrap();
        assert_eq!(hex(&out[..n]), VECTOR[1].1);
        caller.read_message(&out[..n], &mut back).unwrap();
        let mut sides = [caller.into_transport_mode().unwrap(), answerer.into_transport_mode().unwrap()];
        for (turn, (payload, sealed)) in VECTOR[2..].iter().enumerate() {
            let n = sides[turn % 2].write_message(&bytes(payload), &mut out).unwrap();
            assert_eq!(hex(&out[..n]), *sealed);
            let m = sides[(turn + 1) % 2].read_message(&out[..n], &mut back).unwrap();
            assert_eq!(hex(&back[..m]), *payload);
        }
    }

    #[test]
    fn entropy_is_given_once() {
        let mut random = Resolver::new([5; 32]).resolve_rng().unwrap();
        let mut key = [0; 32];
        random.try_fill_bytes(&mut key).unwrap();
        assert_eq!(key, [5; 32]);
        assert!(random.try_fill_bytes(&mut key).is_err());
    }
}
