//! What a test changed outside of its own namespace is changed back when the test ends, however it ends.

use crate::kubectl::Kubectl;

/// Calls kubectl when it is dropped.
#[derive(Debug)]
pub struct Undo<'a> {
    kubectl: &'a Kubectl,
    arguments: Vec<String>,
}

impl<'a> Undo<'a> {
    /// Later calls kubectl with these arguments.
    pub fn new(kubectl: &'a Kubectl, arguments: &[&str]) -> Self {
        Self { kubectl, arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect() }
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        if let Err(error) = self.kubectl.run(&arguments) {
            eprintln!("{error:#}");
        }
    }
}
