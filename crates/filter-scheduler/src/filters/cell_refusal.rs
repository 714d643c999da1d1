//! Explains why the NUMA cells of an instance do not fit onto a host: which pages, CPUs or memory are short, and what each
//! cell of the host has of them.
//!
//! What always holds: `numa::fit` alone decides, and this text is made afterwards. What it names as short is short for
//! certain: the cells would not fit if they asked for nothing else.
//!
//! Left out: devices and networks that must be near the cells. They are named only if nothing else is short.

use novella_resources::cpu_set::CpuSet;
use novella_resources::numa::{
    Cell, InstanceCell, InstanceTopology, PAGES_ANY, PAGES_LARGE, PAGES_SMALL, Pages, ThreadPolicy, Topology,
};

/// KiB in a MiB.
const KB_PER_MB: i64 = 1024;

/// How far the CPUs and the memory of a host may be overcommitted.
#[derive(Clone, Copy)]
pub(super) struct Ratios {
    pub(super) cpu: f64,
    pub(super) ram: f64,
}

/// What an instance asks of each cell, and what the cells of the host have of it.
struct Dimension {
    /// The name of what is counted.
    what: String,
    /// How much each cell of the instance asks for.
    asked: Vec<i64>,
    unit: &'static str,
    /// How much each cell of the host can give, and the text about that.
    given: Vec<(i64, String)>,
}

/// Why the guest's cells do not fit. `surroundings` is what else must be near the cells, such as PCI devices, if anything.
pub(super) fn refusal(
    host: &Topology,
    guest: &InstanceTopology,
    ratios: Ratios,
    surroundings: Option<&str>,
) -> String {
    let (has, asked) = (host.cells.len(), guest.cells.len());
    if has < asked {
        return format!("short of NUMA cells: asked {asked}, it has {has}");
    }
    if let Some(uneven) = guest.cells.iter().find_map(uneven) {
        return uneven;
    }
    let dimensions: Vec<_> =
        [memory(host, guest, ratios), pinned(host, guest), threads(host, guest), shared(host, guest, ratios)]
            .into_iter()
            .flatten()
            .collect();
    let short: Vec<_> = dimensions.iter().filter(|dimension| dimension.is_short()).collect();
    if !short.is_empty() {
        let lines = short.iter().map(|dimension| format!("short of {}", dimension.text(host)));
        return lines.collect::<Vec<_>>().join("; ");
    }
    let near = surroundings.map_or_else(String::new, |what| format!(" near {what}"));
    let lines: Vec<_> = dimensions.iter().map(|dimension| dimension.text(host)).collect();
    format!("no combination of its NUMA cells{near} has everything that is asked: {}", lines.join("; "))
}

/// The text about memory that is not a whole number of pages.
fn uneven(cell: &InstanceCell) -> Option<String> {
    let (size, memory) = (cell.pagesize, cell.memory_mb);
    let uneven = size > 0 && memory.saturating_mul(KB_PER_MB) % size != 0;
    uneven.then(|| {
        format!(
            "asked {memory} MiB in one NUMA cell, which is not a whole number of pages of {}",
            pages(size)
        )
    })
}

/// The memory, in pages of the size that is asked for.
fn memory(host: &Topology, guest: &InstanceTopology, ratios: Ratios) -> Option<Dimension> {
    let first = guest.cells.first()?;
    let mb: Vec<_> = guest.cells.iter().map(|cell| cell.memory_mb).collect();
    let pages_of = |cell: &Cell, wanted: &dyn Fn(&Pages) -> bool| {
        let pages: Vec<_> = cell.mempages.iter().filter(|pages| wanted(pages)).copied().collect();
        let text = pages.iter().map(|pages| pages_left(*pages)).collect::<Vec<_>>().join(" and ");
        let most = pages.iter().map(|pages| free(*pages).saturating_mul(pages.size_kb) / KB_PER_MB).max();
        (
            most.unwrap_or(0),
            if pages.is_empty() { "has no such pages".to_owned() } else { format!("has {text}") },
        )
    };
    let smallest = |cell: &Cell| cell.mempages.iter().map(|pages| pages.size_kb).min();
    let each = |give: &dyn Fn(&Cell) -> (i64, String)| host.cells.iter().map(give).collect();
    Some(match first.pagesize {
        0 if first.cpu_policy.pins() => Dimension {
            what: "free memory".to_owned(),
            asked: mb,
            unit: " MiB",
            given: each(&|cell| match smallest(cell) {
                Some(size) => pages_of(cell, &|pages| pages.size_kb == size),
                None => (cell.avail_memory_mb(), format!("has {} MiB", cell.avail_memory_mb())),
            }),
        },
        0 => Dimension {
            what: "memory".to_owned(),
            asked: mb,
            unit: " MiB",
            given: each(&|cell| {
                let (total, used) = (cell.memory_mb, cell.memory_usage_mb);
                left(total, ratios.ram, used, " MiB")
            }),
        },
        size @ (PAGES_SMALL | PAGES_LARGE | PAGES_ANY) => Dimension {
            what: match size {
                PAGES_SMALL => "free memory in the smallest pages".to_owned(),
                PAGES_LARGE => "free memory in large pages".to_owned(),
                _ => "free memory in pages of one size".to_owned(),
            },
            asked: mb,
            unit: " MiB",
            given: each(&|cell| {
                let least = smallest(cell);
                pages_of(cell, &|pages| match size {
                    PAGES_SMALL => Some(pages.size_kb) == least,
                    PAGES_LARGE => Some(pages.size_kb) != least,
                    _ => true,
                })
            }),
        },
        size => Dimension {
            what: format!("free pages of {}", pages(size)),
            asked: mb.iter().map(|mb| mb.saturating_mul(KB_PER_MB) / size).collect(),
            unit: "",
            given: each(&|cell| match cell.mempages.iter().find(|pages| pages.size_kb == size) {
                Some(pages) => (free(*pages), format!("has {} of {} free", free(*pages), pages.total)),
                None => (0, "has no such pages".to_owned()),
            }),
        },
    })
}

/// The CPUs that the instance has to itself, and one for the emulator's threads if these are isolated.
fn pinned(host: &Topology, guest: &InstanceTopology) -> Option<Dimension> {
    if !guest.cells.first()?.cpu_policy.pins() {
        return None;
    }
    let emulator = guest.isolate_emulator_threads;
    let own = |(at, cell): (usize, &InstanceCell)| cell.pcpuset.len() as i64 + i64::from(emulator && at == 0);
    let with = if emulator { ", one of them for the emulator" } else { "" };
    Some(Dimension {
        what: format!("CPUs free to be pinned{with}"),
        asked: guest.cells.iter().enumerate().map(own).collect(),
        unit: "",
        given: host
            .cells
            .iter()
            .map(|cell| of(cell.free_pcpus().len(), cell.pcpuset.len(), "free"))
            .collect(),
    })
}

/// What a thread policy asks of the cores of pinned CPUs.
fn threads(host: &Topology, guest: &InstanceTopology) -> Option<Dimension> {
    let policy = guest.cells.first()?.cpu_thread_policy?;
    let free = |cell: &Cell| {
        let free = cell.free_pcpus();
        cell.siblings.iter().map(|core| core.and(&free).len()).collect::<Vec<_>>()
    };
    let (what, given): (_, Vec<_>) = match policy {
        ThreadPolicy::Prefer => return None,
        ThreadPolicy::Isolate => {
            let whole_cores = |cell: &Cell| {
                let threads = cell.siblings.iter().map(CpuSet::len).max().unwrap_or(1).max(1);
                // As in Nova: if CPUs are set apart for pinning, an isolated instance needs a host without threads.
                if threads > 1 && cell.pcpuset != cell.cpuset {
                    return (0, "has cores with threads".to_owned());
                }
                let whole = free(cell).into_iter().filter(|free| *free >= threads).count();
                of(whole, cell.siblings.len(), "free")
            };
            let what = "completely free cores, one for each pinned CPU (isolate)";
            (what, host.cells.iter().map(whole_cores).collect())
        }
        ThreadPolicy::Require => {
            let threads_of_one_core = |cell: &Cell| {
                let free = free(cell);
                let most = free.iter().copied().max().unwrap_or(0);
                let places = |threads| threads * free.iter().filter(|free| **free >= threads).count();
                of((2..=most).map(places).max().unwrap_or(0), cell.pcpuset.len(), "free")
            };
            let what = "CPUs free to be pinned to threads of one core (require)";
            (what, host.cells.iter().map(threads_of_one_core).collect())
        }
    };
    let asked = guest.cells.iter().map(|cell| cell.pcpuset.len() as i64).collect();
    Some(Dimension { what: what.to_owned(), asked, unit: "", given })
}

/// The CPUs that the instance shares with others.
fn shared(host: &Topology, guest: &InstanceTopology, ratios: Ratios) -> Option<Dimension> {
    if !guest.cells.first()?.cpu_policy.shares() {
        return None;
    }
    let given = |cell: &Cell| left(cell.cpuset.len() as i64, ratios.cpu, cell.cpu_usage, "");
    Some(Dimension {
        what: "shared CPUs".to_owned(),
        asked: guest.cells.iter().map(|cell| cell.cpuset.len() as i64).collect(),
        unit: "",
        given: host.cells.iter().map(given).collect(),
    })
}

impl Dimension {
    /// Whether the cells could not be arranged even if they asked for nothing else. The largest demand then goes to the
    /// cell that has most.
    fn is_short(&self) -> bool {
        let mut asked = self.asked.clone();
        let mut given: Vec<_> = self.given.iter().map(|(amount, _)| *amount).collect();
        asked.sort_unstable_by(|a, b| b.cmp(a));
        given.sort_unstable_by(|a, b| b.cmp(a));
        asked.iter().zip(&given).any(|(asked, given)| asked > given)
    }

    fn text(&self, host: &Topology) -> String {
        let Self { what, asked, unit, given } = self;
        let asked = match &asked[..] {
            [one] => format!("{one}{unit} in one NUMA cell"),
            [first, rest @ ..] if rest.iter().all(|other| other == first) => {
                format!("{first}{unit} in each of {} NUMA cells", asked.len())
            }
            all => {
                let amounts: Vec<_> = all.iter().map(|amount| format!("{amount}{unit}")).collect();
                format!("{} in one NUMA cell each", amounts.join(", "))
            }
        };
        let cells = match &given[..] {
            [(_, first), rest @ ..] if !rest.is_empty() && rest.iter().all(|(_, other)| other == first) => {
                format!("each of its {} NUMA cells {first}", given.len())
            }
            all => {
                let cells = host.cells.iter().zip(all);
                let texts = cells.map(|(cell, (_, text))| format!("its NUMA cell {} {text}", cell.id));
                texts.collect::<Vec<_>>().join(", ")
            }
        };
        format!("{what}: asked {asked}; {cells}")
    }
}

/// How many pages may still be given to instances.
fn free(pages: Pages) -> i64 {
    pages.total - pages.used - pages.reserved
}

fn pages_left(left: Pages) -> String {
    format!("{} of {} pages of {} free", free(left), left.total, pages(left.size_kb))
}

/// A number of things out of a total, and the text about it.
fn of(number: usize, total: usize, state: &str) -> (i64, String) {
    (number as i64, format!("has {number} of {total} {state}"))
}

/// What is left of something that is overcommitted, and the text about it. No instance may ask for more than the total.
fn left(total: i64, ratio: f64, used: i64, unit: &str) -> (i64, String) {
    let left = ((total as f64 * ratio).floor() as i64).saturating_sub(used).max(0);
    (left.min(total), format!("has {left}{unit} left of {total} x {ratio}, {used} in use"))
}

/// The size of a page, for people to read.
fn pages(size_kb: i64) -> String {
    const GB: i64 = KB_PER_MB * KB_PER_MB;
    match size_kb {
        size if size % GB == 0 => format!("{} GiB", size / GB),
        size if size % KB_PER_MB == 0 => format!("{} MiB", size / KB_PER_MB),
        size => format!("{size} KiB"),
    }
}
