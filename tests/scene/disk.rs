//! Disks that fill up and disks that lose their power.
//!
//! Must stay true: whatever happens to the test, its mount is taken down. They need root and loop devices, and say so.

use super::tool;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system of its own.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
    image: Option<PathBuf>,
    mounted: bool,
}

impl Disk {
    /// A small disk in memory at `place`, which is made.
    #[track_caller]
    pub fn tmpfs(place: &Path, size: &str) -> Self {
        std::fs::create_dir_all(place).unwrap();
        let options = format!("size={size},mode=0755");
        tool("mount", &["-t", "tmpfs", "-o", &options, "lifeboat-test", place.to_str().unwrap()]);
        Self { place: place.to_owned(), image: None, mounted: true }
    }

    /// An ext4 disk in an image beside `place`.
    #[track_caller]
    pub fn ext4(place: &Path, size: &str) -> Self {
        Self::ext4_of(place.with_extension("image"), place, size)
    }

    /// An ext4 disk in an image of this name.
    #[track_caller]
    pub fn ext4_of(image: PathBuf, place: &Path, size: &str) -> Self {
        std::fs::create_dir_all(place).unwrap();
        tool("truncate", &["-s", size, image.to_str().unwrap()]);
        tool("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
        let mut disk = Self { place: place.to_owned(), image: Some(image), mounted: false };
        disk.mount();
        disk
    }

    #[track_caller]
    fn mount(&mut self) {
        let image = self.image.as_ref().expect("only a disk with an image is mounted again");
        let output = Command::new("mount").args(["-o", "loop"]).args([image, &self.place]).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "no ext4 on a loop device: run this as root with /dev/loop-control: {why}"
        );
        self.mounted = true;
    }

    fn unmount(&mut self) {
        if std::mem::take(&mut self.mounted) {
            let plain = Command::new("umount").arg(&self.place).output().unwrap();
            if !plain.status.success() {
                // Somebody still has a file open: the name goes now, the rest with the last of them.
                let _ = Command::new("umount").arg("-l").arg(&self.place).output();
            }
        }
    }

    /// Where it is mounted.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Cuts the power: what is only in memory is lost. Bring it back with [`Self::power_on`].
    #[track_caller]
    pub fn cut_power(&self) {
        // EXT4_IOC_SHUTDOWN without flushing the journal.
        let script = "open my $d, '<', $ARGV[0] or die $!; \
            my $flag = pack('L', 2); ioctl($d, 0x8004587D, $flag) or die \"EXT4_IOC_SHUTDOWN: $!\";";
        tool("perl", &["-e", script, self.place.to_str().unwrap()]);
    }

    /// Mounts the disk again; the journal is replayed.
    #[track_caller]
    pub fn power_on(&mut self) {
        let unmounted = Command::new("umount").arg(&self.place).output().unwrap();
        let why = String::from_utf8_lossy(&unmounted.stderr);
        assert!(unmounted.status.success(), "a lazy unmount would keep what the cut should lose: {why}");
        self.mounted = false;
        self.mount();
    }

    /// What fills it up to so many bytes, which may be needed while nobody has the disk.
    pub fn filler(&self, left: u64) -> impl Fn() + Send + 'static {
        let place = self.place.clone();
        move || {
            // ext4 keeps up to so many blocks, which count as free, for itself.
            const KEPT: u64 = 4096;
            let disk = rustix::fs::statvfs(&place).unwrap();
            let free = (disk.f_bfree.saturating_sub(KEPT) * disk.f_frsize).saturating_sub(left);
            let length = free.to_string();
            tool("fallocate", &["-l", &length, place.join("ballast").to_str().unwrap()]);
        }
    }

    /// Makes the room again that was taken by [`Self::fill`] or [`Self::filler`].
    pub fn empty(&self) {
        std::fs::remove_file(self.place.join("ballast")).unwrap();
    }

    /// Fills it to the last byte with a file `ballast`.
    pub fn fill(&self) {
        stuff(&self.place);
    }
}

/// Fills the disk of a folder to the last byte with a file `ballast` in it.
pub fn stuff(folder: &Path) {
    use std::io::Write;
    let mut ballast = std::fs::File::create(folder.join("ballast")).unwrap();
    for piece in [1 << 16, 1 << 12, 1] {
        let piece = vec![1; piece];
        while ballast.write_all(&piece).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}
