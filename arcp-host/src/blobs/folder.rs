//! Bytes of artifacts in files that are named by their digests.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use arcp_proto::model::artifact::{BlobDigest, BlobHasher};
use arcp_proto::runtime::BlobRange;

use super::Blobs;

/// The name of a file that is being written.
const UNFINISHED: &str = "unfinished";
/// The prefix of the file of an upload; its number follows.
const PART: &str = "part-";

/// Bytes in a folder that only its owner can read. A file is written under another name, synced and
/// renamed, so that a file named by a digest is always whole.
#[derive(Debug)]
pub struct FolderBlobs {
    folder: PathBuf,
}

impl FolderBlobs {
    /// The bytes in a folder, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// If the folder cannot be created.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<FolderBlobs> {
        let folder = folder.into();
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => Err(error),
            Ok(()) | Err(_) => Ok(FolderBlobs { folder }),
        }
    }

    fn path(&self, digest: BlobDigest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    /// The file of an upload.
    fn part(&self, upload: u64) -> PathBuf {
        self.folder.join(format!("{PART}{upload}"))
    }

    /// Whether the file of a digest exists and is undamaged.
    fn is_whole(&self, digest: BlobDigest) -> io::Result<bool> {
        let mut hashed = match File::open(self.path(digest)) {
            Ok(from) => Hashed { from, hasher: BlobHasher::default() },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        io::copy(&mut hashed, &mut io::sink())?;
        Ok(hashed.hasher.digest() == digest)
    }

    /// Makes renames and deletions durable.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

/// Writes a file durably.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Creates a file that only its owner can read. An existing file or link is an error.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A reader that computes the SHA-256 of what it reads.
struct Hashed<R> {
    from: R,
    hasher: BlobHasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Deletes a file, or a link itself.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Blobs for FolderBlobs {
    fn store(&mut self, digest: BlobDigest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        // A damaged file is written again.
        if self.is_whole(digest)? {
            // Its rename may not be durable yet.
            return self.sync();
        }
        let unfinished = self.folder.join(UNFINISHED);
        remove(&unfinished)?;
        // On a full disk, the partial file would take up space.
        write(&unfinished, bytes).inspect_err(|_| drop(remove(&unfinished)))?;
        fs::rename(&unfinished, &path)?;
        self.sync()
    }

    fn read(&mut self, digest: BlobDigest) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match File::open(self.path(digest)) {
            Ok(mut file) => file.read_to_end(&mut bytes).map(|_| Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_range(&mut self, digest: BlobDigest, range: BlobRange) -> io::Result<Option<Vec<u8>>> {
        let mut file = match File::open(self.path(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        file.seek(io::SeekFrom::Start(range.offset))?;
        let mut bytes = Vec::new();
        file.take(range.length).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn append(&mut self, upload: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.part(upload);
        let mut file = match offset {
            0 => {
                remove(&path)?;
                create(&path)?
            }
            _ => OpenOptions::new().write(true).open(&path)?,
        };
        // The remains of an interrupted write are overwritten.
        file.set_len(offset)?;
        file.seek(io::SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn finish(&mut self, upload: u64, digest: BlobDigest) -> io::Result<()> {
        let part = self.part(upload);
        let finished = match File::open(&part) {
            // An artifact of zero bytes has no parts, so its file is created here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&part),
            opened => opened,
        };
        let stored = finished.and_then(|file| file.sync_all()).and_then(|()| fs::rename(&part, self.path(digest)));
        stored.inspect_err(|_| drop(remove(&part)))?;
        self.sync()
    }

    fn abandon(&mut self, upload: u64) -> io::Result<()> {
        remove(&self.part(upload))
    }

    fn let_go(&mut self, digest: BlobDigest) -> io::Result<()> {
        remove(&self.path(digest))
    }

    /// Files whose names are not digests belong to others, and stay.
    fn keep_only(&mut self, digests: &BTreeSet<BlobDigest>) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_part = name.strip_prefix(PART).is_some_and(|number| number.parse::<u64>().is_ok());
            let is_ours = is_part || name == UNFINISHED || name.parse().is_ok_and(|digest| !digests.contains(&digest));
            if is_ours && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_there_once_and_whole_and_what_nobody_has_goes() {
        let folder = std::env::temp_dir().join(format!("arcp-blobs-{}", std::process::id()));
        let mut blobs = FolderBlobs::open(&folder).expect("a folder");
        let digests = [b"one".as_slice(), b"two"].map(BlobDigest::of);
        for (bytes, digest) in [b"one", b"two"].into_iter().zip(digests) {
            blobs.store(digest, bytes).expect("stored");
            blobs.store(digest, bytes).expect("there already");
        }
        fs::write(folder.join(UNFINISHED), "on").expect("a crash");
        fs::write(folder.join("notes.txt"), "mine").expect("written");
        fs::write(folder.join(digests[1].to_string()), "tw").expect("damaged");
        let mut again = FolderBlobs::open(&folder).expect("it is there");
        again.store(digests[1], b"two").expect("written anew");
        assert_eq!(again.read(digests[1]).expect("readable").as_deref(), Some(b"two".as_slice()));
        let part = |blobs: &mut FolderBlobs, offset, length| {
            let read = blobs.read_range(digests[0], BlobRange { offset, length }).expect("readable");
            read.map(|bytes| String::from_utf8(bytes).expect("text"))
        };
        let parts = [(0, 2), (1, 1), (1, 9), (3, 1)].map(|(offset, length)| part(&mut again, offset, length));
        assert_eq!(parts.map(|part| part.expect("it is there")), ["on", "n", "ne", ""]);
        again.keep_only(&BTreeSet::from([digests[0]])).expect("deleted");
        let mut names: Vec<String> = fs::read_dir(&folder)
            .expect("readable")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        let mut expected = [digests[0].to_string(), "notes.txt".to_string()];
        expected.sort();
        assert_eq!(names, expected);
        assert_eq!(again.read(digests[1]).expect("readable"), None);
        assert_eq!(again.read_range(digests[1], BlobRange { offset: 0, length: 1 }).expect("readable"), None);
        again.let_go(digests[0]).expect("deleted");
        again.let_go(digests[0]).expect("gone already");
        fs::remove_dir_all(&folder).expect("deleted");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_folder_has_nothing_written_to_what_it_points_to() {
        let folder = std::env::temp_dir().join(format!("arcp-linked-{}", std::process::id()));
        let mut blobs = FolderBlobs::open(&folder).expect("a folder");
        let (mine, digest) = (folder.join("notes.txt"), BlobDigest::of(b"one"));
        fs::write(&mine, "mine").expect("written");
        for link in [UNFINISHED.to_string(), digest.to_string()] {
            std::os::unix::fs::symlink(&mine, folder.join(&link)).expect("a link");
            blobs.store(digest, b"one").expect("stored");
            assert_eq!(fs::read_to_string(&mine).expect("there"), "mine", "{link}");
            assert_eq!(blobs.read(digest).expect("readable").as_deref(), Some(b"one".as_slice()));
            blobs.let_go(digest).expect("deleted");
        }
        fs::remove_dir_all(&folder).expect("deleted");
    }
}
