//! Reads the section table of a 64-bit little-endian ELF file, as far as a BPF object and a static program need it.

use anyhow::{Context as _, Result, ensure};

const MAGIC: &[u8] = b"\x7fELF\x02\x01"; // 64-bit, little-endian
const EM_BPF: u16 = 247;
const HEADER_SIZE: usize = 64;

/// A section's name and how many bytes it holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section<'a> {
    /// As the section name table has it.
    pub name: &'a str,
    /// Zero for a section that is declared and empty.
    pub size: u64,
}

/// The sections of a BPF object, in the order of its table.
pub(crate) fn sections(file: &[u8]) -> Result<Vec<Section<'_>>> {
    ensure!(file.starts_with(MAGIC), "not a 64-bit little-endian ELF file");
    let machine = u16_at(file, 18)?;
    ensure!(machine == EM_BPF, "an ELF file for machine {machine}, not for BPF ({EM_BPF})");
    table(file)
}

/// Whether a program asks for a dynamic linker, and so cannot run in a root directory that has none.
pub(crate) fn is_dynamic(file: &[u8]) -> Result<bool> {
    ensure!(file.starts_with(MAGIC), "not a 64-bit little-endian ELF file");
    Ok(table(file)?.iter().any(|section| section.name == ".interp"))
}

fn table(file: &[u8]) -> Result<Vec<Section<'_>>> {
    let table = usize::try_from(u64_at(file, 40)?)?;
    let entry_size = usize::from(u16_at(file, 58)?);
    let count = usize::from(u16_at(file, 60)?);
    let names_index = usize::from(u16_at(file, 62)?);
    ensure!(entry_size >= HEADER_SIZE, "section headers of {entry_size} bytes");

    let header = |index: usize| {
        let start = index.checked_mul(entry_size).and_then(|offset| table.checked_add(offset))?;
        file.get(start..start.checked_add(HEADER_SIZE)?)
    };
    let names = contents(file, header(names_index).context("no section name table")?)?;
    (0..count)
        .map(|index| {
            let header = header(index).context("the section table is cut short")?;
            let name = names.get(u32_at(header, 0)? as usize..).context("a name outside the name table")?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            Ok(Section { name: std::str::from_utf8(name)?, size: u64_at(header, 32)? })
        })
        .collect()
}

fn contents<'a>(file: &'a [u8], header: &[u8]) -> Result<&'a [u8]> {
    let start = usize::try_from(u64_at(header, 24)?)?;
    let size = usize::try_from(u64_at(header, 32)?)?;
    file.get(start..start.saturating_add(size)).context("a section outside the file")
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N]> {
    let field = bytes.get(offset..offset + N).context("the file is cut short")?;
    Ok(field.try_into()?)
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16> {
    array_at(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Result<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A BPF object with the sections given, each filled with as many zero bytes as asked for.
    pub(crate) fn object(wanted: &[(&str, u64)]) -> Vec<u8> {
        let mut names = vec![0];
        let mut headers = vec![0; HEADER_SIZE];
        for (name, size) in wanted.iter().copied().chain([(".strtab", 0)]) {
            let mut header = [0; HEADER_SIZE];
            header[..4].copy_from_slice(&u32::try_from(names.len()).unwrap().to_le_bytes());
            header[24..32].copy_from_slice(&64_u64.to_le_bytes());
            header[32..40].copy_from_slice(&size.to_le_bytes());
            names.extend(name.bytes().chain([0]));
            headers.extend(header);
        }
        let last = headers.len() - HEADER_SIZE;
        headers[last + 32..last + 40].copy_from_slice(&(names.len() as u64).to_le_bytes());

        let mut file = vec![0; 64];
        file[..6].copy_from_slice(MAGIC);
        file[18..20].copy_from_slice(&EM_BPF.to_le_bytes());
        file[40..48].copy_from_slice(&(64 + names.len() as u64).to_le_bytes());
        file[58..60].copy_from_slice(&64_u16.to_le_bytes());
        let count = u16::try_from(wanted.len() + 2).unwrap();
        file[60..62].copy_from_slice(&count.to_le_bytes());
        file[62..64].copy_from_slice(&(count - 1).to_le_bytes());
        file.extend(names);
        file.extend(headers);
        file
    }

    #[test]
    fn sections_are_listed_with_their_sizes() {
        let file = object(&[(".BTF", 12), ("tp_btf/inet_sock_set_state", 800)]);
        let found = sections(&file).unwrap();
        assert!(found.contains(&Section { name: ".BTF", size: 12 }), "{found:?}");
        assert!(found.contains(&Section { name: "tp_btf/inet_sock_set_state", size: 800 }), "{found:?}");
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_and_no_panic() {
        let file = object(&[(".BTF", 12), (".maps", 3)]);
        for length in 0..file.len() {
            assert!(sections(&file[..length]).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn a_program_with_a_dynamic_linker_is_told_from_one_without() {
        assert!(is_dynamic(&object(&[(".interp", 28), (".text", 8)])).unwrap());
        assert!(!is_dynamic(&object(&[(".text", 8)])).unwrap());
    }

    #[test]
    fn a_program_for_the_host_is_refused() {
        let mut file = object(&[]);
        file[18..20].copy_from_slice(&62_u16.to_le_bytes());
        assert!(sections(&file).unwrap_err().to_string().contains("62"));
    }
}
