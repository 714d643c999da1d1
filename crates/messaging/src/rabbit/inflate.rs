//! Decompresses bodies of peers that set `kombu_compression = gzip`. What kombu calls gzip is zlib's format.

use std::io::Read;

use bytes::Bytes;
use flate2::read::ZlibDecoder;

use crate::transport::MAX_BODY_BYTES;

/// What kombu writes into the header `compression` for both `gzip` and `zlib`.
const KOMBU_ZLIB: &str = "application/x-gzip";

/// The body as its sender wrote it, given the AMQP header `compression`. An unknown codec is ignored, as peers do. A body
/// that is not valid zlib, or is longer than [`MAX_BODY_BYTES`] once inflated, is returned as it came: that is not JSON, so
/// it is then rejected as malformed.
pub fn inflate(body: Bytes, compression: Option<&str>) -> Bytes {
    if compression != Some(KOMBU_ZLIB) {
        return body;
    }
    let mut plain = Vec::new();
    let limit = MAX_BODY_BYTES as u64 + 1;
    match ZlibDecoder::new(&*body).take(limit).read_to_end(&mut plain) {
        Ok(length) if length <= MAX_BODY_BYTES => plain.into(),
        _ => body,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn deflate(plain: &[u8]) -> Bytes {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn zlib_is_inflated_within_bounds() {
        let small = deflate(b"{\"a\": 1}");
        assert_eq!(&*inflate(small.clone(), Some(KOMBU_ZLIB)), b"{\"a\": 1}");
        assert_eq!(inflate(small.clone(), None), small);
        assert_eq!(inflate(small.clone(), Some("application/x-lzma")), small);
        let bomb = deflate(&vec![b' '; MAX_BODY_BYTES + 1]);
        assert!(bomb.len() < 100_000);
        assert_eq!(inflate(bomb.clone(), Some(KOMBU_ZLIB)), bomb);
        let cut = small.slice(..small.len() - 6);
        assert_eq!(inflate(cut.clone(), Some(KOMBU_ZLIB)), cut);
    }
}
