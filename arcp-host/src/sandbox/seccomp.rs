//! Restrictions by seccomp, where Landlock has none. Of the network, Landlock restricts only
//! `connect` and `bind` of TCP. Of other processes, it restricts signals, but not resource limits.
//! Of files, it does not restrict changes of owner, mode and times.

use std::collections::BTreeMap;
use std::path::Path;

use libc::c_long;
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter,
};

use super::kernel::Feature;
use super::ruleset::{Ports, Ruleset};

/// The bits of a socket type without its flags.
const TYPE: u64 = 0xf;
/// The option by which a TCP socket becomes another protocol, which Landlock does not treat as TCP.
const TCP_ULP: u64 = 31;

/// Calls that give access to memory or keyrings of other processes, or that bypass this filter.
const NEVER: [c_long; 9] = [
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
];

/// Calls that change the limits and scheduling of a process by its number; 0 is the caller. The
/// kernel allows each user to change all of their processes, so also the runtime.
const OF_A_PROCESS: [c_long; 5] = [
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
];
/// Calls of this kind that first name the kind of target; and the value for all processes of a user.
const OF_SEVERAL: [(c_long, u64); 2] = [(libc::SYS_setpriority, libc::PRIO_USER as u64), (libc::SYS_ioprio_set, 3)];

/// Calls that change the metadata of a file. A filter cannot see which file it is.
const OF_FILES: [c_long; 9] = [
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
];
/// Further calls of this kind: older ones, and newer ones whose numbers are the same everywhere:
/// `fchmodat2`, `setxattrat`, `removexattrat` and `file_setattr`.
const MORE_OF_FILES: &[c_long] = &[libc::SYS_lremovexattr, libc::SYS_fremovexattr, 452, 463, 466, 469];
#[cfg(target_arch = "x86_64")]
const OLDER_OF_FILES: &[c_long] =
    &[libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_OF_FILES: &[c_long] = &[];
/// `ioctl` commands of this kind: flags of files, in both sizes, their attributes, and sealing.
const IOCTLS_OF_FILES: [u64; 4] = [0x4008_6602, 0x4004_6602, 0x401c_5820, 0x4080_6685];

type Rules = Vec<SeccompRule>;

/// Whether the kernel supports filters.
pub(super) fn is_there() -> bool {
    Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() && TargetArch::try_from(std::env::consts::ARCH).is_ok()
}

/// Restricts this thread, and the programs that it becomes and starts, permanently.
///
/// # Errors
///
/// If the kernel does not accept the filter.
pub(super) fn restrict(ruleset: &Ruleset) -> Result<(), String> {
    // Landlock judges each UNIX socket, if it can. Otherwise only a program that may use all of
    // them may make one.
    let unix_sockets = ruleset.unix_sockets || ruleset.restrict.contains(&Feature::UnixSockets);
    let filter = filter(ruleset, unix_sockets).map_err(|error| error.to_string())?;
    // A filter cannot see the arguments of `clone3`. A program that is told that it does not exist
    // uses `clone`.
    let without = refusing([(libc::SYS_clone3, Vec::new())].into(), libc::ENOSYS).map_err(|error| error.to_string())?;
    [without, filter].iter().try_for_each(|filter| apply_filter(filter)).map_err(|error| error.to_string())
}

fn filter(ruleset: &Ruleset, unix_sockets: bool) -> Result<BpfProgram, BackendError> {
    let inet = ruleset.connect != Ports::Only([].into());
    let fast_open = |flags: u8| {
        let bit = libc::MSG_FASTOPEN as u64;
        Ok(vec![rule(&[(flags, SeccompCmpOp::MaskedEq(bit), bit)])?])
    };
    let another_protocol = [(1, SeccompCmpOp::Eq, libc::IPPROTO_TCP as u64), (2, SeccompCmpOp::Eq, TCP_ULP)];
    let mut refused: Vec<(c_long, Rules)> = NEVER.map(|call| (call, Vec::new())).into();
    refused.extend([
        (libc::SYS_socket, sockets(inet, ruleset.udp, unix_sockets)?),
        // Calls other than `connect` that connect.
        (libc::SYS_sendto, fast_open(3)?),
        (libc::SYS_sendmsg, fast_open(2)?),
        (libc::SYS_sendmmsg, fast_open(3)?),
        (libc::SYS_setsockopt, vec![rule(&another_protocol)?]),
    ]);
    // Without a preceding `bind`, `listen` picks a port without a check by Landlock.
    refused.extend((!ruleset.unix_sockets).then(|| (libc::SYS_listen, Vec::new())));
    refused.extend(others()?);
    if !ruleset.writes() {
        refused.extend(of_files()?);
    }
    refusing(refused, libc::EACCES)
}

/// A filter that refuses these calls. It ends 32-bit programs on a 64-bit machine.
fn refusing(calls: Vec<(c_long, Rules)>, error: i32) -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = calls.into_iter().flat_map(|(call, rules)| numbers(call).map(move |number| (number, rules.clone())));
    let refusal = SeccompAction::Errno(error as u32);
    SeccompFilter::new(refused.collect::<BTreeMap<i64, Rules>>(), SeccompAction::Allow, refusal, arch)?.try_into()
}

/// Calls that affect other processes, and calls that make a user namespace, in which a program has
/// all capabilities again.
fn others() -> Result<Vec<(c_long, Rules)>, BackendError> {
    let user_namespace = libc::CLONE_NEWUSER as u64;
    let makes_one = rule(&[(0, SeccompCmpOp::MaskedEq(user_namespace), user_namespace)])?;
    let mut refused = vec![(libc::SYS_unshare, vec![makes_one.clone()]), (libc::SYS_clone, vec![makes_one])];
    for call in OF_A_PROCESS {
        refused.push((call, vec![rule(&[(0, SeccompCmpOp::Ne, 0)])?]));
    }
    for (call, of_user) in OF_SEVERAL {
        refused.push((call, vec![rule(&[(1, SeccompCmpOp::Ne, 0)])?, rule(&[(0, SeccompCmpOp::Eq, of_user)])?]));
    }
    Ok(refused)
}

/// Calls that change files which a program may only read, or only name.
fn of_files() -> Result<Vec<(c_long, Rules)>, BackendError> {
    let calls = OF_FILES.iter().chain(MORE_OF_FILES).chain(OLDER_OF_FILES);
    let mut refused: Vec<(c_long, Rules)> = calls.map(|call| (*call, Vec::new())).collect();
    let commands = IOCTLS_OF_FILES.map(|command| rule(&[(1, SeccompCmpOp::Eq, command)]));
    refused.push((libc::SYS_ioctl, commands.into_iter().collect::<Result<Rules, BackendError>>()?));
    Ok(refused)
}

/// The sockets that may not be made. Of internet sockets, a program may make TCP ones if it may
/// connect to a port, and UDP ones if the operator allows them: UDP reaches any host and port.
fn sockets(inet: bool, udp: bool, unix: bool) -> Result<Rules, BackendError> {
    let (unix_domain, ip) = (libc::AF_UNIX as u64, [libc::AF_INET as u64, libc::AF_INET6 as u64]);
    let netlink = libc::AF_NETLINK as u64;
    let domains =
        unix.then_some(unix_domain).into_iter().chain(inet.then_some(ip).into_iter().flatten()).chain([netlink]);
    let other_domains: Vec<Test> = domains.map(|domain| (0, SeccompCmpOp::Ne, domain)).collect();
    let mut refused = vec![rule(&other_domains)?];
    for domain in ip {
        let with = |tests: &[Test]| rule(&[&[(0, SeccompCmpOp::Eq, domain)], tests].concat());
        for kind in 0..=TYPE {
            let is_kind = (1, SeccompCmpOp::MaskedEq(TYPE), kind);
            let protocol = match kind as i32 {
                libc::SOCK_STREAM => libc::IPPROTO_TCP,
                libc::SOCK_DGRAM if udp => libc::IPPROTO_UDP,
                _ => {
                    refused.push(with(&[is_kind])?);
                    continue;
                }
            };
            let another = [(2, SeccompCmpOp::Ne, 0), (2, SeccompCmpOp::Ne, protocol as u64)];
            refused.push(with(&[&[is_kind], &another[..]].concat())?);
        }
    }
    // Only the netlink family that tells the addresses of this machine.
    let not_routes = [(0, SeccompCmpOp::Eq, netlink), (2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE as u64)];
    refused.push(rule(&not_routes)?);
    Ok(refused)
}

/// An argument, a comparison and a value.
type Test = (u8, SeccompCmpOp, u64);

/// A rule that matches if all of these tests match.
fn rule(tests: &[Test]) -> Result<SeccompRule, BackendError> {
    let conditions =
        tests.iter().map(|(argument, how, with)| SeccompCondition::new(*argument, Dword, how.clone(), *with));
    SeccompRule::new(conditions.collect::<Result<Vec<SeccompCondition>, BackendError>>()?)
}

/// The number of a call, and its number in the x32 ABI.
#[cfg(target_arch = "x86_64")]
fn numbers(call: c_long) -> impl Iterator<Item = i64> {
    let of_x32 = match call {
        libc::SYS_ioctl => 514,
        libc::SYS_sendmsg => 518,
        libc::SYS_sendmmsg => 538,
        libc::SYS_setsockopt => 541,
        same => same,
    };
    [call, 0x4000_0000 | of_x32].into_iter()
}

#[cfg(not(target_arch = "x86_64"))]
fn numbers(call: c_long) -> impl Iterator<Item = i64> {
    std::iter::once(i64::from(call))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
    use std::os::fd::OwnedFd;

    use rustix::io::{Errno, Result};
    use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType, ipproto, listen, sendto, socket};

    use super::super::hierarchy::Hierarchy;
    use super::super::ruleset::Right;
    use super::*;

    fn ruleset(ports: &[u16], unix_sockets: bool) -> Ruleset {
        Ruleset {
            restrict: [Feature::Sockets].into(),
            base: Vec::new(),
            granted: Vec::new(),
            connect: Ports::Only(ports.iter().copied().collect()),
            unix_sockets,
            udp: false,
        }
    }

    /// Runs `what` on another thread behind this filter; `None` if the kernel supports no filters.
    fn behind<T: Send>(ruleset: &Ruleset, what: impl FnOnce() -> T + Send) -> Option<T> {
        std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let restricted = restrict(ruleset);
                assert_eq!(restricted.is_ok(), is_there(), "{restricted:?}");
                restricted.ok().map(|()| what())
            });
            confined.join().expect("no panic")
        })
    }

    fn made(family: AddressFamily, kind: SocketType, protocol: Option<Protocol>) -> Result<()> {
        socket(family, kind, protocol).map(drop)
    }

    #[test]
    fn only_tcp_is_left_of_the_network_to_who_may_connect_unless_udp_is_allowed() {
        let (inet, inet6) = (AddressFamily::INET, AddressFamily::INET6);
        let refused = Err(Errno::ACCESS);
        behind(&ruleset(&[443], false), || {
            assert_eq!(made(inet, SocketType::STREAM, None), Ok(()));
            assert_eq!(made(inet6, SocketType::STREAM, Some(ipproto::TCP)), Ok(()));
            for datagrams in [None, Some(ipproto::UDP), Some(ipproto::ICMP)] {
                assert_eq!(made(inet, SocketType::DGRAM, datagrams), refused, "{datagrams:?}");
                assert_eq!(made(inet6, SocketType::DGRAM, datagrams), refused, "{datagrams:?}");
            }
            for other in [ipproto::MPTCP, ipproto::SCTP, ipproto::DCCP, ipproto::UDP] {
                assert_eq!(made(inet, SocketType::STREAM, Some(other)), refused, "{other:?}");
                assert_eq!(made(inet6, SocketType::STREAM, Some(other)), refused, "{other:?}");
            }
            assert_eq!(made(inet, SocketType::RAW, Some(ipproto::ICMP)), refused);
            assert_eq!(made(inet, SocketType::SEQPACKET, None), refused);
            assert_eq!(made(AddressFamily::UNIX, SocketType::STREAM, None), refused);
            assert_eq!(made(AddressFamily::from_raw(40), SocketType::STREAM, None), refused, "of a virtual machine");
            assert_eq!(made(AddressFamily::NETLINK, SocketType::RAW, None), Ok(()), "addresses of this machine");
            assert_eq!(made(AddressFamily::NETLINK, SocketType::RAW, Some(ipproto::TCP)), refused);
        });
        behind(&Ruleset { udp: true, ..ruleset(&[443], false) }, || {
            assert_eq!((made(inet, SocketType::DGRAM, None), made(inet6, SocketType::DGRAM, None)), (Ok(()), Ok(())));
            assert_eq!(made(inet, SocketType::DGRAM, Some(ipproto::ICMP)), refused);
        });
        behind(&Ruleset { udp: true, ..ruleset(&[], false) }, || {
            for kind in [SocketType::STREAM, SocketType::DGRAM] {
                assert_eq!((made(inet, kind, None), made(inet6, kind, None)), (refused, refused));
            }
        });
        behind(&ruleset(&[], true), || assert_eq!(made(AddressFamily::UNIX, SocketType::STREAM, None), Ok(())));
    }

    #[test]
    fn who_writes_nothing_changes_no_mode_owner_time_flag_or_attribute() {
        use rustix::fs::{
            AtFlags, CWD, IFlags, Mode, Timespec, Timestamps, XattrFlags, chmodat, chown, fchmod, fchown, fsetxattr,
            ioctl_setflags, lremovexattr, utimensat,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "x").expect("written");
        let (file, own) = (std::fs::File::open(&path).expect("it is there"), rustix::process::getuid());
        let now = Timespec { tv_sec: 1, tv_nsec: 0 };
        let changes = || {
            let times = Timestamps { last_access: now, last_modification: now };
            [
                fchmod(&file, Mode::from_raw_mode(0o640)),
                chmodat(CWD, &path, Mode::from_raw_mode(0o640), AtFlags::empty()),
                fchown(&file, Some(own), None),
                chown(&path, Some(own), None),
                utimensat(CWD, &path, &times, AtFlags::empty()),
            ]
        };
        // A file system need not support them; but its error is not a refusal.
        let odd = || {
            [
                fsetxattr(&file, "user.a", b"x", XattrFlags::empty()),
                lremovexattr(&path, "user.b"),
                ioctl_setflags(&file, IFlags::NODUMP),
            ]
        };
        assert_eq!(changes(), [Ok(()); 5], "elsewhere that is done");
        let found = behind(&ruleset(&[], false), || (changes(), odd()));
        assert_eq!(found, is_there().then_some(([Err(Errno::ACCESS); 5], [Err(Errno::ACCESS); 3])));
        let writes = vec![(Hierarchy::Below(folder.path().into()), Right::Write)];
        let found = behind(&Ruleset { granted: writes, ..ruleset(&[], false) }, || (changes(), odd()));
        assert!(found.is_none_or(|(changes, odd)| changes == [Ok(()); 5] && !odd.contains(&Err(Errno::ACCESS))));
    }

    #[test]
    fn nobody_bounds_another_process_or_slows_it_down() {
        use rustix::process::{
            Resource, getpid, getpriority_process, getrlimit, prlimit, setpriority_process, setpriority_user,
        };
        use rustix::thread::{sched_getaffinity, sched_setaffinity};
        let own = getpid();
        let bounds = |pid| prlimit(pid, Resource::Nofile, getrlimit(Resource::Nofile)).map(drop);
        let slows = |pid| getpriority_process(pid).and_then(|nice| setpriority_process(pid, nice));
        let moves = |pid| sched_getaffinity(pid).and_then(|cpus| sched_setaffinity(pid, &cpus));
        let each = || [bounds(Some(own)), slows(Some(own)), moves(Some(own))];
        assert_eq!(each(), [Ok(()); 3], "elsewhere that is done");
        let found = behind(&ruleset(&[], false), || {
            assert_eq!([bounds(None), slows(None), moves(None)], [Ok(()); 3], "of itself it may");
            assert_eq!(setpriority_user(rustix::process::getuid(), 19), Err(Errno::ACCESS));
            std::thread::spawn(|| ()).join().expect("it has threads");
            each()
        });
        assert_eq!(found, is_there().then_some([Err(Errno::ACCESS); 3]));
    }

    #[test]
    fn nobody_listens_or_connects_by_sending() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let stream = || -> OwnedFd { socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket") };
        let fast_open = SendFlags::from_bits_retain(libc::MSG_FASTOPEN as u32);
        let send = || sendto(stream(), b"x", fast_open, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        let listens = || listen(stream(), 1);
        assert!(send() != Err(Errno::ACCESS) && listens() == Ok(()), "elsewhere that is done");
        let found = behind(&ruleset(&[443], false), || (send(), listens()));
        let refused = (Err(Errno::ACCESS), Err(Errno::ACCESS));
        assert_eq!(found, is_there().then_some(refused));
    }
}
