//! What a device starts with.

use folder::engine::Options;
use tree::Disk as _;

use super::World;

impl World {
    /// What a device starts with. Some make small groups and note what came of them bit by bit, so that groups
    /// overlap; not where a mistake is to be found, which small groups hide.
    pub(super) fn options(&mut self, number: usize) -> Options {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.rng.next().to_le_bytes());
        let history = self.history_limits();
        let device = &self.devices[number];
        let small = device.small_groups && self.mutation.is_none();
        let (max_group, noted_at_once) = if small { (3, 1) } else { (2048, 128) };
        Options {
            ignore: device.ignore.clone(),
            max_transfers: 2,
            max_group,
            noted_at_once,
            seed,
            binding: device.binding.clone(),
            boot: device.boot.to_le_bytes().to_vec(),
            brake: device.brake,
            accept_deletes: device.accept_deletes,
            history,
            mode: device.mode,
            folds_names: device.disk.folds_names(),
            forget_deletions: true,
        }
    }
}
