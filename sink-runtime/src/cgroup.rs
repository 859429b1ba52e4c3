//! How much memory the container may use, by its control group. What the files say is judged without I/O; reading them
//! is the edge at the end. Touches `/proc` and `/sys/fs/cgroup`, and nothing on systems that have neither.

use std::path::{Component, Path, PathBuf};

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The smallest limit that holds for this process: its own control group's or one of those above it, version 2
/// (`memory.max`) or 1 (`memory.limit_in_bytes`). `None` without a limit: where no file tells one, where it says `max`,
/// and where it is as large as the machine's memory, as version 1 says "no limit".
///
/// `read` gives the content of a file, `None` where there is none.
pub fn memory_limit(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| installed(&text));
    limit_files(&groups)
        .iter()
        .filter_map(|file| read(file)?.trim().parse::<u64>().ok())
        .filter(|limit| *limit > 0 && machine.is_none_or(|machine| *limit < machine))
        .min()
}

/// [`memory_limit`] of this process.
pub fn own_memory_limit() -> Option<u64> {
    memory_limit(|path| std::fs::read_to_string(path).ok())
}

/// The files that may hold a limit. A container that sees its own group as the root finds it there; without such a view
/// the group is found by the path in `/proc/self/cgroup`.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = vec![
        Path::new(ROOT).join("memory.max"),
        Path::new(ROOT).join("memory/memory.limit_in_bytes"),
    ];
    for line in groups.lines() {
        // hierarchy:controllers:path
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (mount, name) = if controllers.is_empty() {
            (PathBuf::from(ROOT), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (Path::new(ROOT).join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut folder = mount;
        // A path that leads out of the mount (`/../..`) is of a group that cannot be seen from here.
        let steps = Path::new(path).components();
        for step in steps.filter(|step| *step != Component::RootDir) {
            let Component::Normal(step) = step else { break };
            folder.push(step);
            files.push(folder.join(name));
        }
    }
    files
}

/// The machine's memory, by `/proc/meminfo`.
fn installed(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MEMINFO: &str = "MemTotal:       25165824 kB\nMemFree:         1000000 kB\n";

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        let mut known = BTreeMap::from([("/proc/meminfo", MEMINFO)]);
        known.extend(files.iter().copied());
        memory_limit(|path| {
            known
                .get(path.to_str()?)
                .map(|content| (*content).to_owned())
        })
    }

    #[test]
    fn the_limit_of_a_container_is_found_in_either_version() {
        let v2 = [
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "536870912\n"),
        ];
        assert_eq!(limit(&v2), Some(512 << 20));
        let v1 = [
            (
                "/proc/self/cgroup",
                "5:cpu,cpuacct:/kubepods/pod1/c1\n4:memory:/kubepods/pod1/c1\n",
            ),
            // The container's own group is mounted at the place of the root.
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
        ];
        assert_eq!(limit(&v1), Some(256 << 20));
    }

    #[test]
    fn of_the_limits_on_the_way_to_the_root_the_smallest_holds() {
        let v2 = [
            ("/proc/self/cgroup", "0::/kube.slice/pod.slice/c.scope\n"),
            ("/sys/fs/cgroup/kube.slice/memory.max", "8589934592\n"),
            (
                "/sys/fs/cgroup/kube.slice/pod.slice/memory.max",
                "1073741824\n",
            ),
            (
                "/sys/fs/cgroup/kube.slice/pod.slice/c.scope/memory.max",
                "max\n",
            ),
        ];
        assert_eq!(limit(&v2), Some(1 << 30));
        let v1 = [
            ("/proc/self/cgroup", "4:hugetlb,memory:/a/b\n"),
            (
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "1000000000\n",
            ),
            (
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ];
        assert_eq!(limit(&v1), Some(1_000_000_000));
    }

    #[test]
    fn what_limits_nothing_is_no_limit() {
        assert_eq!(limit(&[]), None);
        for said in [
            "max\n",
            "9223372036854771712\n",
            "18446744073709551615",
            // All the machine has.
            "25769803776\n",
            "0\n",
            "-1\n",
            "a lot",
            "",
        ] {
            let files = [
                ("/proc/self/cgroup", "0::/\n3:memory:/../..\n"),
                ("/sys/fs/cgroup/memory.max", said),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", said),
            ];
            assert_eq!(limit(&files), None, "{said}");
        }
        // Nobody knows what the machine has: then the file is believed.
        let alone = |path: &Path| {
            (path == Path::new("/sys/fs/cgroup/memory.max")).then(|| "1000".to_owned())
        };
        assert_eq!(memory_limit(alone), Some(1000));
    }
}
