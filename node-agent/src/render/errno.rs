//! Names of the errors a socket can close with.

use std::fmt;

/// An errno that shows as its name, or as the number where it has none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u32);

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name(self.0) {
            Some(name) => formatter.write_str(name),
            None => self.0.fmt(formatter),
        }
    }
}

macro_rules! names {
    ($($name:ident)*) => {
        /// Symbolic name of an error number of this architecture, for those that TCP, routing, netfilter and BPF
        /// programs leave in `sk_err`.
        pub fn name(errno: u32) -> Option<&'static str> {
            match i32::try_from(errno).ok()? {
                $(libc::$name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST ENODEV EINVAL ENFILE EMFILE
    ENOSPC EPIPE ERANGE EDEADLK ENOSYS ENODATA ETIME ENONET ENOLINK EPROTO EBADMSG EOVERFLOW ENOTSOCK EDESTADDRREQ
    EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL
    ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETIMEDOUT ECONNREFUSED
    EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn an_error_shows_its_name_and_else_its_number() {
        for (number, shown) in
            [(111, "ECONNREFUSED"), (110, "ETIMEDOUT"), (104, "ECONNRESET"), (32, "EPIPE"), (4000, "4000")]
        {
            assert_eq!(Errno(number).to_string(), shown);
        }
    }
}
