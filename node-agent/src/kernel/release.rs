//! Which kernel runs.

/// Release as `uname -r` prints it.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The first two numbers of a release.
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::kernel_version;

    #[test]
    fn releases_of_distributions_are_read() {
        assert_eq!(kernel_version("6.1.0-32-cloud-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("5.10.234+deb11"), Some((5, 10)));
        assert_eq!(kernel_version("nonsense"), None);
    }
}
