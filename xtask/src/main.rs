//! What `./x` runs once there is a toolchain: `./x` brings packages, this crate builds, checks and tests.
//!
//! ```text
//! ./x ──► main ──► agent ──► bpf ──► toolchain ──► tool (bpf-linker)
//!          │                  └────► elf (is everything in the object?)
//!          ├─────► test ──► layer, libtest, e2e ──► kubernetes ──► debian; image
//!          │                  ├──► deploy ──► debian (helm, kubectl, Prometheus)
//!          │                  ├──► victorialogs ──► debian
//!          │                  ├──► apis ──► debian
//!          │                  └──► kernels ──► debian, agent
//!          ├─────► image ──► agent as above, linked statically; arch, reproducible
//!          ├─────► bench ──► bpf
//!          ├─────► fuzz, miri ──► bpf
//!          ├─────► plugin
//!          ├─────► release ──► image, plugin, sbom, deploy (helm)
//!          ├─────► schema ──► manifests, rules, dashboards
//!          └─────► check ──► lint, manifests, rules, dashboards, tool (cargo-deny)
//! ```
//! Everything goes through [`workspace`] (where things are), [`programs`] (is it there?) and [`step`] (saying and running).

mod agent;
mod apis;
mod arch;
mod bench;
mod bpf;
mod check;
mod dashboards;
mod debian;
mod deploy;
mod elf;
mod fuzz;
mod image;
mod kept;
mod kernels;
mod kubernetes;
mod layers;
mod lint;
mod manifests;
mod miri;
#[cfg(test)]
mod packages;
mod plugin;
mod programs;
mod release;
mod reproducible;
mod rules;
mod sbom;
mod schema;
#[cfg(test)]
mod shippers;
mod step;
mod test;
mod tool;
mod toolchain;
mod victorialogs;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::image::Profile;
use crate::workspace::Workspace;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            step::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    let workspace = Workspace::find()?;
    match arguments {
        ["bpf"] => bpf::build(&workspace).map(drop),
        ["build"] => agent::build(&workspace).and_then(|_| plugin::build(&workspace)),
        ["build", "--agent"] => agent::build(&workspace).map(drop),
        ["image", options @ ..] => image::run(&workspace, options),
        ["test", selection @ ..] => test::run(&workspace, selection),
        ["soak", options @ ..] => test::soak::run(&workspace, options),
        ["check"] => check::check(&workspace),
        ["fuzz", options @ ..] => fuzz::run(&workspace, options),
        ["miri"] => miri::run(&workspace),
        ["bench", "--fast", options @ ..] => bench::run(&workspace, Profile::Release, options),
        ["bench", options @ ..] => bench::run(&workspace, Profile::Dist, options),
        ["release", options @ ..] => release::make(&workspace, options),
        ["schema"] => schema::write(&workspace),
        ["audit"] => check::audit(&workspace),
        [] => bail!("no command: see ./x help"),
        other => bail!("`{}` is no command: see ./x help", other.join(" ")),
    }
}
