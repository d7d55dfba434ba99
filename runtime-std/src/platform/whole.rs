//! File systems that are flushed as a whole.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use linux::FileSystem;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) use none::FileSystem;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::{fs::File, io, os::unix::fs::MetadataExt, sync::OnceLock};

    /// A file system that is flushed as a whole.
    #[derive(Debug)]
    pub(crate) struct FileSystem {
        folder: File,
        device: u64,
    }

    impl FileSystem {
        /// The file system of `folder`, if flushing all of it covers what flushing each file does, and
        /// reports the same failures.
        pub(crate) fn of(folder: File) -> io::Result<Option<Self>> {
            let kind = rustix::fs::fstatfs(&folder)?.f_type as u32;
            let device = folder.metadata()?.dev();
            let fit = FLUSHED_WHOLE.contains(&kind) && syncfs_reports_errors();
            Ok(fit.then_some(Self { folder, device }))
        }

        /// The number of the file system.
        pub(crate) const fn device(&self) -> u64 {
            self.device
        }

        /// Flushes the whole file system.
        pub(crate) fn sync(&self) -> io::Result<()> {
            Ok(rustix::fs::syncfs(&self.folder)?)
        }
    }

    /// ext2 to ext4, XFS, btrfs, F2FS, tmpfs: `statfs(2)` and linux/magic.h. File systems on top of others,
    /// or served by a program or another machine, do not pass a flush on completely, or not its errors.
    const FLUSHED_WHOLE: [u32; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

    /// Whether `syncfs` reports errors: of failed writes since Linux 5.8, of the file system itself since
    /// 5.17.
    fn syncfs_reports_errors() -> bool {
        static REPORTS: OnceLock<bool> = OnceLock::new();
        *REPORTS.get_or_init(|| {
            let system = rustix::system::uname();
            release(system.release().to_str().unwrap_or_default()) >= (5, 17)
        })
    }

    /// The first two numbers of a kernel release such as `6.1.0-13-amd64`.
    fn release(text: &str) -> (u32, u32) {
        let mut numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    #[test]
    fn what_does_not_pass_a_flush_on_is_not_flushed_whole() {
        let proc = File::open("/proc").unwrap();
        assert!(FileSystem::of(proc).unwrap().is_none());
    }

    #[test]
    fn a_kernel_is_told_by_its_release() {
        for (text, expected) in [
            ("6.1.0-13-amd64", (6, 1)),
            ("5.17.0", (5, 17)),
            ("5.4-rc3+", (5, 4)),
            ("4.4.0", (4, 4)),
            ("", (0, 0)),
            ("mine", (0, 0)),
        ] {
            assert_eq!(release(text), expected, "{text}");
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod none {
    use std::io;

    /// File systems are not flushed as a whole on this platform.
    #[derive(Debug)]
    pub(crate) enum FileSystem {}

    impl FileSystem {
        /// The number of the file system.
        pub(crate) const fn device(&self) -> u64 {
            match *self {}
        }

        /// Flushes the whole file system.
        pub(crate) const fn sync(&self) -> io::Result<()> {
            match *self {}
        }
    }
}
