//! FNV-1a with 64 bits. It is short, well known, and the same on every machine, so schedulers can compare its hashes.

/// The hash of everything that was written into it.
pub(crate) struct Fnv(u64);

impl Fnv {
    /// The hash before anything is written.
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// The hash of what was written so far.
    pub(crate) fn finish(&self) -> u64 {
        self.0
    }
}

impl std::io::Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::Fnv;

    #[test]
    fn it_is_the_published_function() {
        let mut hash = Fnv::new();
        hash.write_all(b"foobar").unwrap();
        assert_eq!(hash.finish(), 0x8594_4171_f739_67e8);
    }
}
