//! What was made of objects before, for as long as nothing that it follows from has changed.

use std::{any::Any, fmt, sync::Arc};

use ahash::HashMap;

use super::inputs::Inputs;
use crate::{ir::ObjectRef, snapshot::Changes};

/// A result for each object that had one in the last translation.
pub(super) struct Kept<T> {
    /// By the object's address.
    entries: HashMap<usize, Entry<T>>,
    /// Number of the translation.
    round: u64,
    /// How many entries were of use in it.
    used: usize,
}

struct Entry<T> {
    /// Held so that no other object gets its address.
    _object: Arc<dyn Any + Send + Sync>,
    /// What it refers to, there or not.
    backends: Box<[ObjectRef]>,
    result: T,
    round: u64,
}

impl<T: Clone> Kept<T> {
    /// Lets go of what has to be made anew after `changes`. Begins a translation.
    pub(super) fn begin(&mut self, changes: &Changes) {
        self.round += 1;
        self.used = 0;
        if changes.everything {
            self.entries.clear();
        } else if !changes.backends.is_empty() {
            let stays = |entry: &mut Entry<T>| !entry.backends.iter().any(|backend| changes.backends.contains(backend));
            self.entries.retain(|_, entry| stays(entry));
        }
    }

    /// What was made of this very object before, or else what `make` makes of it.
    ///
    /// That may depend on whatever the changes of [`Kept::begin`] tell of, as long as every backend that is looked up is
    /// [noted](Inputs::note), and on nothing else.
    pub(super) fn of<O: Any + Send + Sync>(
        &mut self,
        inputs: &Inputs<'_>,
        object: &Arc<O>,
        make: impl FnOnce() -> T,
    ) -> T {
        self.of_if(inputs, object, |_| true, make)
    }

    /// The same, where the result depends on something else as well: on what `holds` compares.
    pub(super) fn of_if<O: Any + Send + Sync>(
        &mut self,
        inputs: &Inputs<'_>,
        object: &Arc<O>,
        holds: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> T {
        let address = Arc::as_ptr(object).addr();
        self.used += 1;
        if let Some(entry) = self.entries.get_mut(&address).filter(|entry| holds(&entry.result)) {
            entry.round = self.round;
            return entry.result.clone();
        }
        let (result, backends) = inputs.observe(make);
        let object: Arc<dyn Any + Send + Sync> = Arc::<O>::clone(object);
        let entry = Entry { _object: object, backends: backends.into(), result: result.clone(), round: self.round };
        self.entries.insert(address, entry);
        result
    }

    /// Lets go of what was not asked for. Ends a translation.
    pub(super) fn end(&mut self) {
        if self.entries.len() > self.used {
            self.entries.retain(|_, entry| entry.round == self.round);
        }
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { entries: HashMap::default(), round: 0, used: 0 }
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}
