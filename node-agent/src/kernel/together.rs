//! Having the kernel take several programs beside each other: it looks at a large one for tens of milliseconds, on one CPU.

use std::thread;

use aya::{Ebpf, programs::Program};

use super::error::BoxError;

/// Loads these programs, each by `load`. What came of each, in the order of the names.
pub(super) fn load_together(
    ebpf: &mut Ebpf,
    names: &[&str],
    load: impl Fn(&str, &mut Program) -> Result<(), BoxError> + Sync,
) -> Vec<Result<(), BoxError>> {
    let mut results: Vec<_> = names.iter().map(|_| Err("not in the object".into())).collect();
    thread::scope(|scope| {
        let found = ebpf.programs_mut().filter_map(|(name, program)| {
            let place = names.iter().position(|wanted| *wanted == name)?;
            Some((place, program))
        });
        let load = &load;
        let under_way: Vec<_> =
            found.map(|(place, program)| (place, scope.spawn(move || load(names[place], program)))).collect();
        for (place, thread) in under_way {
            results[place] = thread.join().unwrap_or_else(|_| Err("the loader panicked".into()));
        }
    });
    results
}
