//! The simulated country: its regions and the managers in them.
//!
//! All regions but the last have managers to spare; the last is short of them, so that some requests wait and escalate, and
//! has so few requests (0.4 %) that the 99th percentile of the latency still speaks of the machine and not of the queue.

use crate::events::Manager;

use super::random::Random;

/// A region of the simulation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region {
    /// Its name, the key of its requests.
    pub(crate) name: &'static str,
    /// Its city.
    pub(crate) city: &'static str,
    /// Requests of a thousand.
    pub(crate) weight: u32,
    /// How many managers live there.
    managers: u32,
    /// Percent of the capacity that the requests need on average.
    capacity_percent: u32,
}

const fn region(
    name: &'static str,
    city: &'static str,
    weight: u32,
    managers: u32,
    capacity_percent: u32,
) -> Region {
    Region { name, city, weight, managers, capacity_percent }
}

/// All regions; the weights add up to a thousand.
pub(crate) const REGIONS: [Region; 7] = [
    region("centre", "Capital", 300, 8, 250),
    region("north", "Northport", 200, 6, 250),
    region("south", "Southfield", 180, 6, 250),
    region("east", "Eastbridge", 150, 5, 250),
    region("west", "Westhaven", 110, 4, 250),
    region("mountains", "Highgate", 56, 3, 250),
    region("islands", "Farpoint", 4, 1, 20),
];

/// For how long a request keeps its manager busy on average, in seconds; see `contractors`.
const BUSY_SECONDS: f64 = 3.2;

impl Region {
    /// One of them, by weight.
    pub(crate) fn pick(random: &mut Random) -> &'static Self {
        let mut rest = u32::try_from(random.below(1_000)).expect("below a thousand");
        for region in &REGIONS {
            match rest.checked_sub(region.weight) {
                Some(left) => rest = left,
                None => return region,
            }
        }
        &REGIONS[0]
    }

    /// The capacity of each of its managers at `rate` requests per second.
    fn capacity(&self, rate: f64) -> i32 {
        let busy = rate * f64::from(self.weight) / 1_000.0 * BUSY_SECONDS;
        let share = busy * f64::from(self.capacity_percent) / 100.0 / f64::from(self.managers);
        (share.round() as i32).max(if self.capacity_percent > 100 { 5 } else { 2 })
    }
}

/// The directory as it stands at the beginning, ids from 1.
pub(crate) fn directory(seed: u64, rate: f64) -> Vec<Manager> {
    const NAMES: [&str; 12] = [
        "Anna", "Boris", "Clara", "David", "Elena", "Fyodor", "Galina", "Hugo", "Irina", "Jonas",
        "Katya", "Lev",
    ];
    let homes = REGIONS.iter().flat_map(|region| (0..region.managers).map(move |_| region));
    (1..)
        .zip(homes)
        .map(|(manager_id, region)| {
            let mut random = Random::of(seed, "manager", manager_id);
            let name = random.pick(&NAMES);
            Manager {
                manager_id,
                name: format!("{name} {manager_id}"),
                email: format!("{}.{manager_id}@example.org", name.to_lowercase()),
                region: region.name.to_owned(),
                capacity: region.capacity(rate),
                active: true,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_come_by_their_weight() {
        assert_eq!(REGIONS.iter().map(|region| region.weight).sum::<u32>(), 1_000);
        let mut random = Random::of(1, "test", 0);
        let picked = (0..100_000).filter(|_| Region::pick(&mut random).name == "islands").count();
        assert!((300..500).contains(&picked), "{picked}");
    }

    #[test]
    fn only_the_last_region_is_short_of_managers() {
        let directory = directory(1, 500.0);
        for region in REGIONS {
            let capacity: i32 =
                directory.iter().filter(|m| m.region == region.name).map(|m| m.capacity).sum();
            let busy = 500.0 * f64::from(region.weight) / 1_000.0 * BUSY_SECONDS;
            assert_eq!(f64::from(capacity) < busy, region.name == "islands", "{}", region.name);
        }
    }
}
