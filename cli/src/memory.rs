//! How much memory the command takes.

use bytesize::ByteSize;

/// Half of what this process could take.
pub fn default_limit() -> usize {
    kullback::available_memory() / 2
}

/// A number of bytes, with a unit or without.
pub fn parse(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.parse()?;
    usize::try_from(size.as_u64()).map_err(|_| format!("{size} is more than an address can reach"))
}

/// A number of bytes for people.
pub fn shown(bytes: usize) -> String {
    ByteSize::b(bytes as u64).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes) in [
            ("134217728", 128 << 20),
            ("128MiB", 128 << 20),
            ("128 MiB", 128 << 20),
            ("1.5GiB", 3 << 29),
            ("2GB", 2_000_000_000),
            ("64k", 64_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "12 bananas", "-1", "1e9", "0x10"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(shown(128 << 20), "128.0 MiB");
    }

    #[test]
    fn there_is_memory() {
        // Whatever the machine: a fraction of it, and room for some rows.
        assert!((1 << 20..1 << 50).contains(&default_limit()), "{}", default_limit());
    }
}
