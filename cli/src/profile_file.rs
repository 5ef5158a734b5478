//! What executors have learned, in a file.
//!
//! The file is an embedded database (redb), so that a crash while it is written leaves what was in
//! it before. A file that is damaged, or of another version, is set aside under another name and
//! reported; learning then begins anew. It is never a reason not to execute anything.

use anyhow::Context;
use multilane::analyzer::Profile;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use std::{
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

/// One entry, [`FORMAT_KEY`]: the version of the templates' form.
const FORMAT: TableDefinition<'_, &str, u32> = TableDefinition::new("format");
const FORMAT_KEY: &str = "format";
/// Templates by key, as the profile exports them.
const TEMPLATES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("templates");

/// Reads a profile. Where there is no file yet, it is empty.
///
/// # Errors
///
/// If another process has the file open, or the system refuses to set a damaged one aside.
pub(crate) fn load(path: &Path) -> anyhow::Result<Profile> {
    if !path.exists() {
        return Ok(Profile::new());
    }
    // The database checks what it reads by assertions in places.
    let read = panic::catch_unwind(AssertUnwindSafe(|| read(path)))
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the database is inconsistent")));
    match read {
        Ok(profile) => Ok(profile),
        Err(cause) if is_busy(&cause) => Err(cause.context(path.display().to_string())),
        Err(cause) => {
            let aside = set_aside(path).with_context(|| path.display().to_string())?;
            eprintln!(
                "{}: not a profile of this version ({cause:#}); set aside as {}, starting anew",
                path.display(),
                aside.display()
            );
            Ok(Profile::new())
        }
    }
}

/// Writes a profile in place of what the file holds.
///
/// # Errors
///
/// If the file cannot be written; it then holds what it held before.
pub(crate) fn save(path: &Path, profile: &Profile) -> anyhow::Result<()> {
    write(path, profile).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> anyhow::Result<Profile> {
    let database = Database::open(path)?;
    let transaction = database.begin_read()?;
    let format = transaction.open_table(FORMAT)?.get(FORMAT_KEY)?.map(|format| format.value());
    anyhow::ensure!(format == Some(Profile::FORMAT), "its format is {format:?}");
    let profile = Profile::new();
    for entry in transaction.open_table(TEMPLATES)?.iter()? {
        let (key, template) = entry?;
        profile.import(key.value(), template.value())?;
    }
    Ok(profile)
}

fn write(path: &Path, profile: &Profile) -> anyhow::Result<()> {
    let database = Database::create(path)?;
    let transaction = database.begin_write()?;
    transaction.open_table(FORMAT)?.insert(FORMAT_KEY, Profile::FORMAT)?;
    transaction.delete_table(TEMPLATES)?;
    {
        let mut templates = transaction.open_table(TEMPLATES)?;
        for (key, template) in profile.export() {
            templates.insert(&key[..], &template[..])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn is_busy(cause: &anyhow::Error) -> bool {
    matches!(cause.downcast_ref(), Some(DatabaseError::DatabaseAlreadyOpen))
}

/// Renames a file to the first free name of its kind.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = |count: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{count}"));
        PathBuf::from(name)
    };
    let aside = (1..).map(name).find(|name| !name.exists());
    let aside = aside.ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many files of a folder were set aside.
    fn aside(folder: &Path) -> usize {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(".damaged-")).count()
    }

    #[test]
    fn what_is_saved_can_be_loaded_and_saved_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile");
        assert!(load(&path).unwrap().is_empty());
        assert!(!path.exists());
        for _ in 0..2 {
            save(&path, &Profile::new()).unwrap();
            assert!(load(&path).unwrap().is_empty());
        }
        assert_eq!(aside(folder.path()), 0);
    }

    #[test]
    fn files_that_are_no_profiles_are_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile");
        fs::write(&path, b"not a database").unwrap();
        assert!(load(&path).unwrap().is_empty());
        assert_eq!(aside(folder.path()), 1);

        // Another version.
        save(&path, &Profile::new()).unwrap();
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(FORMAT).unwrap().insert(FORMAT_KEY, 99).unwrap();
        transaction.commit().unwrap();
        drop(database);
        assert!(load(&path).unwrap().is_empty());
        assert_eq!(aside(folder.path()), 2);

        // Cut off.
        save(&path, &Profile::new()).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 3]).unwrap();
        assert!(load(&path).unwrap().is_empty());
        assert_eq!(aside(folder.path()), 3);
        save(&path, &Profile::new()).unwrap();
    }

    #[test]
    fn a_file_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile");
        save(&path, &Profile::new()).unwrap();
        let _database = Database::create(&path).unwrap();
        assert!(load(&path).is_err());
        assert_eq!(aside(folder.path()), 0);
    }
}
