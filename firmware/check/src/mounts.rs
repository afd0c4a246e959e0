//! File systems that the kernel made read-only after an error, from the text of `/proc/mounts` (proc(5)). Reads no file.

/// The first of `points` that is mounted read-only (`ro`, or `emergency_ro` of newer kernels), or mounted over by something
/// that is.
#[must_use]
pub fn read_only_mount<'a>(mounts: &str, points: &[&'a str]) -> Option<&'a str> {
    let is_read_only = |point: &str| {
        // The last line of a mount point is the one in force.
        let mut fields = mounts.lines().rev().map(|line| line.split(' '));
        let options = fields.find_map(|mut line| (line.nth(1) == Some(point)).then(|| line.nth(1)).flatten());
        options.is_some_and(|options| options.split(',').any(|o| o == "ro" || o == "emergency_ro"))
    };
    points.iter().copied().find(|point| is_read_only(point))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "/dev/dm-0 / squashfs ro,relatime 0 0\n/dev/vda9 /state ext4 rw,errors=remount-ro 0 0\n\
        /dev/drbd0 /mail/queue ext4 ro,data=journal 0 0\n/dev/drbd1 /mail/data ext4 rw,emergency_ro 0 0\nodd\n";

    #[test]
    fn only_an_option_of_its_own_counts() {
        assert_eq!(read_only_mount(MOUNTS, &["/state", "/log"]), None);
        assert_eq!(read_only_mount(MOUNTS, &["/state", "/mail/queue"]), Some("/mail/queue"));
        assert_eq!(read_only_mount(MOUNTS, &["/mail/data"]), Some("/mail/data"));
        assert_eq!(read_only_mount("", &["/"]), None);
    }

    #[test]
    fn the_last_mount_of_a_point_is_in_force() {
        let mounts = "a /mail/queue ext4 ro 0 0\nb /mail/queue ext4 rw 0 0\n";
        assert_eq!(read_only_mount(mounts, &["/mail/queue"]), None);
    }
}
