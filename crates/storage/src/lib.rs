//! Named objects that appear whole or not at all: local disk, S3, GCS, Azure, memory.
//!
//! [`Storage`] is the promise. [`DiskStorage`] keeps it on a local directory, [`ObjectStorage`] on any store of the
//! `object_store` crate; [`StorageExt`] adds conveniences to both.
//!
//! - `disk`: files that are synced, renamed into place, and private.
//! - `object`, `upload`, `download`: small objects in one request, large ones in parts written and ranges read side
//!   by side, each tried again where it broke. `multipart` is the one place that knows rules about parts.
//! - `cloud` (features `aws`, `gcp`, `azure`): clients with the right time limits, from settings. Credentials come from the caller.
//! - `bucket`: what a bucket is set to that changes what storing and deleting mean in it.
//! - [`FanOut`]: one stream into several stores at once.
//! - `conformance` (a feature): the suite every implementation passes.
//!
//! ```
//! use pgkeep_storage::{Key, ObjectStorage, Storage, StorageExt, WriteOptions};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let storage = ObjectStorage::memory();
//! let key = Key::new("daily/example.dump")?;
//! let mut writer = storage.write(&key, &WriteOptions::default()).await?;
//! writer.write("rows".into()).await?;
//! assert!(!storage.exists(&key).await?);
//! writer.finish().await?;
//! assert_eq!(storage.read_all(&key, 100).await?, "rows");
//! # Ok::<(), pgkeep_storage::Error>(())
//! # }).unwrap();
//! ```

mod bucket;
mod classify;
#[cfg(feature = "cloud")]
mod cloud;
#[cfg(feature = "conformance")]
pub mod conformance;
mod disk;
mod download;
mod error;
mod ext;
mod fan_out;
mod key;
mod location;
mod multipart;
mod object;
mod storage;
mod upload;

pub use bucket::{BucketFacts, LifecycleRule};
#[cfg(feature = "azure")]
pub use cloud::AzureSettings;
#[cfg(feature = "gcp")]
pub use cloud::GcsSettings;
#[cfg(feature = "cloud")]
pub use cloud::Network;
#[cfg(feature = "aws")]
pub use cloud::{Encryption, S3Settings, fixed_credentials};
pub use disk::DiskStorage;
pub use error::{Cause, Error, ErrorKind, Result};
pub use ext::StorageExt;
pub use fan_out::FanOut;
pub use key::Key;
pub use location::Location;
pub use multipart::PartRules;
pub use object::{ObjectStorage, Transfer};
#[cfg(feature = "aws")]
pub use object_store::aws::{AwsCredential, AwsCredentialProvider};
#[cfg(feature = "azure")]
pub use object_store::azure::{AzureCredential, AzureCredentialProvider};
#[cfg(feature = "gcp")]
pub use object_store::gcp::{GcpCredential, GcpCredentialProvider};
#[cfg(feature = "cloud")]
pub use object_store::{CredentialProvider, Error as ObjectStoreError};
pub use storage::{
    ByteStream, Created, ObjectInfo, ObjectWriter, Readiness, Storage, Support, ThawTier, Unfinished, WriteOptions,
};
