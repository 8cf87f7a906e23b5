//! One memory budget for all RocksDB stores of a process, and their tuning.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, Options, WriteBufferManager};

use crate::store::EngineCache;

/// A store flushes its memtable at this size at the latest. Small, because there are many stores.
const MEMTABLE_BYTES_MAX: usize = 8 << 20;

/// Memory is allotted to memtables in pieces of this size; every store that was ever written to holds at least one.
const ARENA_BYTES: usize = 256 << 10;

/// Larger blocks than RocksDB's 4 KiB halve the index; the row cache above absorbs the hot keys.
const BLOCK_BYTES: usize = 8 << 10;

/// One per cent of lookups of absent keys read a block in vain.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// How much memory RocksDB may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RocksDbOptions {
    /// Limit in bytes of blocks, indexes, filters and memtables of all stores together.
    pub memory_bytes_max: usize,
    /// How much of it may be memtables; a store is flushed when all together reach it.
    pub memtable_bytes_max: usize,
}

impl Default for RocksDbOptions {
    fn default() -> Self {
        Self { memory_bytes_max: 64 << 20, memtable_bytes_max: 32 << 20 }
    }
}

/// The options with which every database of the process is opened.
pub(super) struct SharedOptions {
    database: Options,
    cache: Cache,
    capacity: usize,
}

impl SharedOptions {
    pub(super) fn new(options: &RocksDbOptions) -> Self {
        let cache = Cache::new_lru_cache(options.memory_bytes_max);
        // Memtables are charged to the block cache, so that one number bounds both. Writers never stall on it: a commit
        // must not wait for another store's flush.
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            options.memtable_bytes_max,
            false,
            cache.clone(),
        );
        let mut database = Options::default();
        database.create_if_missing(true);
        database.set_block_based_table_factory(&table_options(&cache));
        database.set_compression_type(DBCompressionType::Lz4);
        database.set_write_buffer_manager(&write_buffers);
        database.set_write_buffer_size(MEMTABLE_BYTES_MAX.min(options.memtable_bytes_max));
        database.set_arena_block_size(ARENA_BYTES);
        // One thread writes to a store, in sorted batches; nothing gains from locks for several.
        database.set_allow_concurrent_memtable_write(false);
        database.set_enable_write_thread_adaptive_yield(false);
        database.set_max_background_jobs(2);
        // Its own log is for support cases; two small files per store, no statistics thread.
        database.set_keep_log_file_num(2);
        database.set_max_log_file_size(1 << 20);
        database.set_stats_dump_period_sec(0);
        database.set_stats_persist_period_sec(0);
        Self { database, cache, capacity: options.memory_bytes_max }
    }

    pub(super) fn database(&self) -> &Options {
        &self.database
    }

    pub(super) fn cache(&self) -> EngineCache {
        let pinned = self.cache.get_pinned_usage();
        EngineCache { capacity: self.capacity, usage: self.memory_bytes(), pinned }
    }

    /// What is in the cache, memtables' charge included.
    pub(super) fn memory_bytes(&self) -> usize {
        self.cache.get_usage()
    }
}

fn table_options(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(BLOCK_BYTES);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    // Within the budget too, but preferred over data blocks.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
}
