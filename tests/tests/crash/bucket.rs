//! A world whose backups go to a bucket only, with a gate before it.

use std::sync::Arc;

use pgkeep_storage::Storage;
use pgkeep_testkit::Ceph;

use crate::eyes::{self, litter};
use crate::gate::{Gate, Side};
use crate::victim::Whom;
use crate::world::World;

pub(crate) struct Bucket {
    pub(crate) world: World,
    pub(crate) name: String,
    gate: Gate,
}

impl Bucket {
    /// With one backup in it.
    pub(crate) fn new(label: &str) -> Self {
        let ceph = Ceph::shared();
        let mut world = World::new(label);
        let name = ceph.create_bucket(label);
        for (variable, value) in ceph.environment() {
            world.setup.set(variable, value);
        }
        world.setup.set("AWS_S3_BACKUP_BUCKET", &name);
        world.setup.set("BACKUP_DIR", "none");
        let mut bucket = Self { world, name, gate: Gate::before(&ceph.endpoint()) };
        bucket.world.setup.pgkeep(&["backup"]);
        let keys = bucket.keys();
        let prefix = keys.iter().find_map(|key| key.strip_suffix("/source.json")).expect("it names its source");
        bucket.world.bucket = Some(eyes::bucket(&bucket.name, prefix));
        bucket
    }

    /// The part of it that is the database's.
    pub(crate) fn store(&self) -> Arc<dyn Storage> {
        self.world.bucket.as_ref().map(Arc::clone).expect("set from the beginning")
    }

    /// Starts a run and kills it when it comes to its n-th writing request, which is given; `None` if it ends before.
    pub(crate) fn kill_at(&mut self, nth: usize, side: Side, arguments: &[&str], whom: Whom) -> Option<String> {
        self.gate.stop_at(nth, side);
        self.world.setup.set("AWS_ENDPOINT_URL", self.gate.url());
        let mut victim = self.world.start(arguments);
        let reached = victim.until(|| self.gate.reached().is_some());
        let request = self.gate.reached();
        let fate = victim.kill(whom);
        self.gate.open();
        self.world.setup.set("AWS_ENDPOINT_URL", Ceph::shared().endpoint());
        self.world.settle();
        assert!(reached || fate.done, "{}", fate.said);
        request
    }

    /// What is in the bucket.
    pub(crate) fn keys(&self) -> Vec<String> {
        Ceph::shared().keys(&self.name)
    }

    /// What is in the bucket and belongs to no backup.
    pub(crate) fn litter(&self) -> Vec<String> {
        litter(&self.keys())
    }
}
