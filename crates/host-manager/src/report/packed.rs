//! The words of a report, which change rarely, in one allocation.
//!
//! A host repeats the same names, traits and facts every few seconds. They are stored as one block of length-prefixed
//! pieces. So the usual report costs one comparison from front to back, and no allocation.
//!
//! What always holds: the writer and the reader of a block visit its pieces in the same order. Bytes from outside are
//! never read as a block.

/// A block of pieces, in the order in which they were written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Packed(Box<[u8]>);

/// Accepts pieces, and either compares them with a block or builds a new block.
pub(crate) enum Sink<'a> {
    /// The rest of the block, and whether everything has matched so far.
    Compare(&'a [u8], bool),
    /// The block so far.
    Build(Vec<u8>),
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) {
        match self {
            Self::Compare(left, same) => match left.split_at_checked(bytes.len()) {
                Some((head, tail)) if *same && head == bytes => *left = tail,
                _ => *same = false,
            },
            Self::Build(block) => block.extend_from_slice(bytes),
        }
    }

    /// Accepts a number.
    pub fn number(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// Accepts a number that may be absent.
    pub fn optional_number(&mut self, value: Option<u64>) {
        self.put(&[u8::from(value.is_some())]);
        if let Some(value) = value {
            self.number(value);
        }
    }

    /// Accepts a text of less than 4 GiB. Every report is smaller.
    pub fn text(&mut self, text: &str) {
        self.put(&(text.len() as u32).to_le_bytes());
        self.put(text.as_bytes());
    }

    /// Accepts a text that may be absent.
    pub fn optional(&mut self, text: Option<&str>) {
        self.put(&[u8::from(text.is_some())]);
        if let Some(text) = text {
            self.text(text);
        }
    }
}

impl Packed {
    /// Whether `visit` gives exactly the pieces of this block.
    pub fn matches(&self, visit: impl FnOnce(&mut Sink<'_>)) -> bool {
        let mut sink = Sink::Compare(&self.0, true);
        visit(&mut sink);
        matches!(sink, Sink::Compare([], true))
    }

    /// Builds a block of the pieces that `visit` gives.
    pub fn build(visit: impl FnOnce(&mut Sink<'_>)) -> Self {
        let mut sink = Sink::Build(Vec::new());
        visit(&mut sink);
        match sink {
            Sink::Build(block) => Self(block.into_boxed_slice()),
            Sink::Compare(..) => Self::default(),
        }
    }

    /// How many bytes the pieces take.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no pieces.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the pieces in the order in which they were written.
    pub fn read(&self) -> Pieces<'_> {
        Pieces(&self.0)
    }
}

/// The pieces of a block that have not been read yet.
pub(crate) struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at_checked(len).expect("a block is read in the order it was written");
        self.0 = tail;
        head
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes were taken"))
    }

    pub fn optional_number(&mut self) -> Option<u64> {
        (self.take(1) == [1]).then(|| self.number())
    }

    pub fn text(&mut self) -> &'a str {
        let len = u32::from_le_bytes(self.take(4).try_into().expect("four bytes were taken"));
        std::str::from_utf8(self.take(len as usize)).expect("a text was written here")
    }

    pub fn optional(&mut self) -> Option<&'a str> {
        (self.take(1) == [1]).then(|| self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read_and_any_difference_is_seen() {
        let put = |text: &'static str, number: u64, optional: Option<&'static str>| {
            move |sink: &mut Sink<'_>| {
                sink.text(text);
                sink.number(number);
                sink.optional(optional);
            }
        };
        let block = Packed::build(put("zone-\u{e9}", 7, Some("")));
        let mut pieces = block.read();
        assert_eq!((pieces.text(), pieces.number(), pieces.optional()), ("zone-\u{e9}", 7, Some("")));
        assert!(block.matches(put("zone-\u{e9}", 7, Some(""))));
        assert!(!block.matches(put("zone-\u{e9}", 7, None)));
        assert!(!block.matches(put("zone-\u{e9}", 8, Some(""))));
        assert!(!block.matches(put("zone-e", 7, Some(""))));
        assert!(!block.matches(|sink| sink.text("zone-\u{e9}")), "a prefix is not the whole");
        assert!(!block.matches(|sink| {
            put("zone-\u{e9}", 7, Some(""))(sink);
            sink.number(1);
        }));
        assert!(Packed::default().matches(|_| ()), "no pieces are the empty block");
    }
}
