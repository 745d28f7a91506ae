//! Looks at a file before the system's loader runs its code: what is no library, or half of one, must not take us down.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::error::Error;

/// Bytes of the header of a 64-bit ELF file.
const HEADER: usize = 64;

/// Bytes of a program header there.
const PROGRAM_HEADER: usize = 56;

/// Most program headers that a file may have; real ones have about ten.
const PROGRAM_HEADERS: u64 = 4096;

/// Type of a segment that is mapped into memory.
const PT_LOAD: u64 = 1;

/// Type of a file that is a shared library.
const ET_DYN: u64 = 3;

/// Numbers of `e_machine`.
const MACHINES: [(u64, &str); 6] =
    [(3, "x86"), (40, "arm"), (62, "x86_64"), (183, "aarch64"), (243, "riscv64"), (21, "powerpc64")];

/// Says why a file cannot be a plugin for this machine. Knows ELF only; elsewhere the loader has the word.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    let fail = |reason: String| Error::File { path: path.to_path_buf(), reason };
    let metadata = std::fs::metadata(path).map_err(|e| {
        fail(match e.kind() {
            io::ErrorKind::NotFound => "there is no such file; the path of a PJRT plugin is wanted".into(),
            _ => format!("cannot be read: {e}"),
        })
    })?;
    if metadata.is_dir() {
        return Err(fail("this is a folder; the path of a PJRT plugin, a shared library, is wanted".into()));
    }
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let mut file = File::open(path).map_err(|e| fail(format!("cannot be read: {e}")))?;
    elf(&mut file, metadata.len()).map_err(|e| fail(format!("cannot be read: {e}")))?.map_or(Ok(()), |reason| Err(fail(reason)))
}

/// The reason against a file of `length` bytes, if there is one.
fn elf(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    file.take(HEADER as u64).read_to_end(&mut head)?;
    if head.is_empty() {
        return Ok(Some("the file is empty; a shared library is wanted".into()));
    }
    if !head.starts_with(b"\x7fELF") {
        return Ok(Some(not_a_library(&head)));
    }
    if head.len() < HEADER {
        return Ok(Some(truncated(HEADER as u64, length)));
    }
    if let Some(reason) = other_machine(&head) {
        return Ok(Some(reason));
    }
    let end = table_end(number(&head, 40, 8), number(&head, 58, 2), number(&head, 60, 2));
    if end > length {
        return Ok(Some(truncated(end, length)));
    }
    segments(file, &head, length)
}

fn not_a_library(head: &[u8]) -> String {
    let text = head.iter().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..));
    let what = if text && std::str::from_utf8(head).is_ok() { "this is a text file" } else { "this is no ELF file" };
    format!("{what}, not a shared library; install the plugin anew, or name another file")
}

fn truncated(wanted: u64, length: u64) -> String {
    format!("the file is cut short: it has {length} bytes, its header speaks of {wanted}; install the plugin anew")
}

/// The reason against a library for another machine.
fn other_machine(head: &[u8]) -> Option<String> {
    let (bits, order, kind, machine) = (head[4], head[5], number(head, 16, 2), number(head, 18, 2));
    let name = MACHINES.iter().find(|(n, _)| *n == machine).map_or("another processor", |(_, name)| *name);
    let wanted = std::env::consts::ARCH;
    if bits != 2 {
        return Some(format!("this library has 32 bits, for {name}; one for {wanted} with 64 bits is wanted"));
    }
    if order != if cfg!(target_endian = "little") { 1 } else { 2 } || name != wanted {
        return Some(format!("this library is for {name}; one for {wanted} is wanted"));
    }
    (kind != ET_DYN).then(|| "this is an ELF file, but not a shared library (object file, program or core dump)".to_string())
}

/// Whether every mapped segment lies inside of the file: reading behind its end would be a bus error.
fn segments(file: &mut (impl Read + Seek), head: &[u8], length: u64) -> io::Result<Option<String>> {
    let (start, size, count) = (number(head, 32, 8), number(head, 54, 2), number(head, 56, 2));
    if size < PROGRAM_HEADER as u64 || count == 0 || count > PROGRAM_HEADERS {
        return Ok(Some("this ELF file is damaged: it has no table of segments; install the plugin anew".into()));
    }
    let end = table_end(start, size, count);
    if end > length {
        return Ok(Some(truncated(end, length)));
    }
    file.seek(SeekFrom::Start(start))?;
    let mut table = Vec::new();
    file.take(size * count).read_to_end(&mut table)?;
    let ends = table.chunks_exact(size as usize).filter(|s| number(s, 0, 4) == PT_LOAD);
    let end = ends.map(|s| number(s, 8, 8).saturating_add(number(s, 32, 8))).max().unwrap_or(0);
    Ok((end > length).then(|| truncated(end, length)))
}

/// The byte behind a table. The order of `size` and `count` does not matter.
fn table_end(start: u64, size: u64, count: u64) -> u64 {
    if count == 0 || size == 0 { 0 } else { start.saturating_add(size * count) }
}

/// A number of the machine's byte order.
fn number(bytes: &[u8], offset: usize, size: usize) -> u64 {
    let mut whole = [0u8; 8];
    let field = &bytes[offset..offset + size];
    if cfg!(target_endian = "little") {
        whole[..size].copy_from_slice(field);
        u64::from_le_bytes(whole)
    } else {
        whole[8 - size..].copy_from_slice(field);
        u64::from_be_bytes(whole)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs, io::Cursor};

    use super::*;

    fn reason(bytes: &[u8]) -> Option<String> {
        elf(&mut Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    /// This test is a position-independent program: the same kind of file as a shared library.
    #[test]
    fn a_library_is_accepted_and_every_shorter_one_refused() {
        let whole = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(reason(&whole), None);
        for length in [0, 1, 3, 4, 20, 63, 64, 200, whole.len() / 2, whole.len() - 1] {
            let reason = reason(&whole[..length]).expect("a part of a file was accepted");
            assert!(length < 4 || reason.contains("cut short"), "{length}: {reason}");
        }
    }

    #[test]
    fn what_is_no_library_for_this_machine_is_named() {
        let whole = fs::read(std::env::current_exe().unwrap()).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            reason(&bytes).unwrap()
        };
        assert!(with(4, 1).contains("32 bits"));
        assert!(with(18, 243).contains("riscv64"));
        assert!(with(16, 1).contains("not a shared library"));
        assert!(reason(b"#!/bin/sh\necho hello\n").unwrap().contains("text file"));
        assert!(reason(&[0, 1, 2, 3]).unwrap().contains("no ELF file"));
    }
}
