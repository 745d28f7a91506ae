//! The tensors that live between runs.

use super::{native, pjrt::Resident};
use crate::{Error, HostTensor, Type};
use std::collections::HashMap;

/// The tensors that live between runs (parameters, optimizer state, statistics) and the memory programs work in.
///
/// Training, evaluation and remainder programs share one store and with it one arena. Programs on an accelerator leave the tensors they
/// replace in its memory: [`fetch`](Self::fetch) brings them home. Until then [`get`](Self::get) has nothing to give, never an old value.
#[derive(Default)]
pub struct Store {
    names: HashMap<String, usize>,
    entries: Vec<Entry>,
    pub(super) workspace: native::Workspace,
}

/// A tensor in host memory, on a device, or in both.
struct Entry {
    name: String,
    host: HostTensor,
    /// Whether the host's copy is the current value.
    home: bool,
    device: Option<Resident>,
}

impl Entry {
    fn fetch(&mut self) -> Result<(), Error> {
        if !self.home {
            let lost =
                || Error::Device(format!("the value of `{}` was lost in a run that failed; go on from a checkpoint", self.name));
            self.device.as_ref().ok_or_else(lost)?.read(&mut self.host)?;
            self.home = true;
        }
        Ok(())
    }
}

impl Store {
    /// An empty store.
    pub fn new() -> Store {
        Store::default()
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, value: HostTensor) {
        let name = name.into();
        let entry = Entry { name: name.clone(), host: value, home: true, device: None };
        match self.names.get(&name) {
            Some(&i) => self.entries[i] = entry,
            None => {
                self.names.insert(name, self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// Brings every tensor that a device has a newer value of to host memory.
    ///
    /// # Errors
    /// If the device cannot give them.
    pub fn fetch(&mut self) -> Result<(), Error> {
        self.entries.iter_mut().try_for_each(Entry::fetch)
    }

    /// A tensor by name; `None` also if only a device has its value, see [`fetch`](Self::fetch).
    pub fn get(&self, name: &str) -> Option<&HostTensor> {
        self.names.get(name).map(|&i| &self.entries[i]).filter(|e| e.home).map(|e| &e.host)
    }

    /// A tensor by name, for writing; `None` as for [`get`](Self::get).
    pub fn get_mut(&mut self, name: &str) -> Option<&mut HostTensor> {
        let entry = self.names.get(name).map(|&i| &mut self.entries[i]).filter(|e| e.home)?;
        entry.device = None;
        Some(&mut entry.host)
    }

    /// Exchanges two tensors, wherever they are; nothing happens if one of them is not there.
    pub fn swap(&mut self, a: &str, b: &str) {
        let (Some(&a), Some(&b)) = (self.names.get(a), self.names.get(b)) else { return };
        if let Ok([a, b]) = self.entries.get_disjoint_mut([a, b]) {
            std::mem::swap(a, b);
            std::mem::swap(&mut a.name, &mut b.name);
        }
    }

    /// All tensors whose value is in host memory, in the order they were added; see [`fetch`](Self::fetch).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HostTensor)> {
        self.entries.iter().filter(|e| e.home).map(|e| (e.name.as_str(), &e.host))
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|e| e.host.ty().bytes()).sum()
    }

    /// Finds the positions of a program's state and checks the types; `found` has what was found last time.
    pub(super) fn find(&self, state: &[(String, Type)], found: &mut [usize]) -> Result<(), Error> {
        for ((name, ty), found) in state.iter().zip(found) {
            if self.entries.get(*found).is_none_or(|e| e.name != *name) {
                let position = self.names.get(name).copied();
                *found = position.ok_or_else(|| Error::Run(format!("state `{name}` ({ty}) is not in the store")))?;
            }
            super::expect("state", name, ty, self.entries[*found].host.ty())?;
        }
        Ok(())
    }

    /// The memory of a tensor on the host, with its current value. What devices have is out of date if it is `written`.
    pub(super) fn host(&mut self, position: usize, written: bool) -> Result<&mut HostTensor, Error> {
        let entry = &mut self.entries[position];
        entry.fetch()?;
        if written {
            entry.device = None;
        }
        Ok(&mut entry.host)
    }

    /// The current value on a device, brought there by `upload` if another has it.
    pub(super) fn on_device(
        &mut self,
        position: usize,
        device: u64,
        upload: impl FnOnce(&HostTensor) -> Result<Resident, Error>,
    ) -> Result<(), Error> {
        let entry = &mut self.entries[position];
        if entry.device.as_ref().is_none_or(|r| r.device() != device) {
            entry.fetch()?;
            entry.device = Some(upload(&entry.host)?);
        }
        Ok(())
    }

    /// What a device has of a tensor.
    pub(super) fn resident(&self, position: usize) -> Option<&Resident> {
        self.entries[position].device.as_ref()
    }

    /// Takes what a device has of a tensor: a run was given its memory. A copy on the host stays the value until
    /// [`replace`](Self::replace) says that there is another.
    pub(super) fn take(&mut self, position: usize) -> Option<Resident> {
        self.entries[position].device.take()
    }

    /// A new value of a tensor, on a device.
    pub(super) fn replace(&mut self, position: usize, value: Resident) {
        let entry = &mut self.entries[position];
        (entry.home, entry.device) = (false, Some(value));
    }
}
