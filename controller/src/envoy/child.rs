//! `controller run-child`: becomes another program that the kernel kills when the controller ends, however it ends.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    process::{self, Command},
};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Name of the subcommand.
pub const COMMAND: &str = "run-child";

/// Becomes `program`. It returns only when that fails, or when `parent` has ended already.
pub fn run(parent: u32, program: &OsString, arguments: &[OsString]) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have died before the kernel was told.
    let is_orphan = getppid().is_none_or(|id| u32::try_from(id.as_raw_nonzero().get()) != Ok(parent));
    if is_orphan {
        process::exit(0);
    }
    Command::new(program).args(arguments).exec()
}
