//! Changes of a fleet between two requests, made alike in the table and in the naive engine's list.

use novella_filter_scheduler::{Aggregate, Amounts, HostTable, Instance, Row};
use novella_objects::{HostStatus, Image};
use novella_resources::Devices;
use rand::RngExt;
use rand::seq::IndexedRandom;
use uuid::Uuid;

use crate::common::Rng;
use crate::naive::Host;
use crate::{aggregates, host, inventories, kinds, many_devices, write, write_inventories};

/// One random change.
pub fn one(rng: &mut Rng, table: &mut HostTable, hosts: &mut Vec<Host>, all: &mut Vec<Aggregate>) {
    if hosts.is_empty() || rng.random_bool(0.08) {
        return added(rng, table, hosts);
    }
    let at = rng.random_range(0..hosts.len());
    let row = table.row_of(&hosts[at].name).expect("it is there");
    let fleet = &mut *hosts;
    let host = &mut fleet[at];
    match rng.random_range(0..14) {
        0 => {
            host.status = *[HostStatus::Up, HostStatus::Suspect, HostStatus::Disabled, HostStatus::Down]
                .choose(rng)
                .unwrap();
            table.set_status(row, host.status);
        }
        1 => {
            host.zone = [None, Some("az1"), Some("az2"), Some("az7")].choose(rng).unwrap().map(str::to_owned);
            table.set_zone(row, host.zone.as_deref());
        }
        2 => {
            host.aggregates = (1..=5).filter(|_| rng.random_bool(0.2)).collect();
            let ids: Vec<u32> = host.aggregates.iter().copied().collect();
            table.set_host_aggregates(row, &ids);
        }
        3 if !host.took_devices => {
            (host.numa, host.pools) = (None, many_devices(rng));
            table.set_devices(row, &Devices::read(None, &host.pools).expect("generated devices are good"));
        }
        4 => {
            host.cell = [None, Some("c1"), Some("c2")].choose(rng).unwrap().map(str::to_owned);
            table.set_cell(row, host.cell.as_deref());
        }
        5 if !host.took_devices => {
            give_back(table, row, host);
            host.resources.vcpus_used = rng.random_range(0..=host.resources.vcpus_total);
            host.resources.memory_mb_used = 512 * rng.random_range(0..=host.resources.memory_mb_total / 512);
            host.resources.failed_builds = rng.random_range(0..3);
            table.set_resources(row, &host.resources).expect("good resources");
        }
        // Amounts are given back here without the devices, which the engine never does.
        6 if !host.took_devices => give_back(table, row, host),
        7 => {
            let amounts = Amounts { vcpus: 1, memory_mb: 512, disk_gb: 10, instances: 1 };
            table.consume(row, &amounts);
            host.resources.vcpus_used += 1;
            host.resources.memory_mb_used += 512;
            host.resources.disk_gb_used += 10;
            host.placed += 1;
        }
        8 => {
            let uuid = Uuid::from_u128(rng.random_range(0..200));
            let image = Image::default();
            let instance = Instance { uuid, flavor: Some("small"), image: Some(&image) };
            if host.instances.insert(uuid) {
                table.add_instance(row, &instance).expect("an empty image is good");
                host.instance_flavors.push("small".to_owned());
                host.instance_images.push(Vec::new());
            }
        }
        9 => {
            removed(table, row, host);
            hosts.remove(at);
        }
        10 => {
            let name = format!("Host{:03}", rng.random_range(0..300));
            if table.rename(row, &name, &format!("node-{name}")) {
                host.name = name;
            }
        }
        11 if rng.random_bool(0.3) => {
            *all = aggregates(rng);
            table.set_aggregates(all.iter().cloned());
        }
        12 if !host.took_classes => {
            host.inventories = inventories(rng);
            write_inventories(table, row, host);
        }
        _ => {
            // Everything that the host reports changes.
            let name = host.name.clone();
            removed(table, row, host);
            hosts.remove(at);
            inserted(rng, table, hosts, name);
        }
    }
}

fn added(rng: &mut Rng, table: &mut HostTable, hosts: &mut Vec<Host>) {
    let name = format!("Host{:03}", rng.random_range(0..300));
    if table.row_of(&name).is_none() {
        inserted(rng, table, hosts, name);
    }
}

fn inserted(rng: &mut Rng, table: &mut HostTable, hosts: &mut Vec<Host>, name: String) {
    let kinds = kinds(rng);
    let number = rng.random_range(0..200);
    let new = host(rng, name.clone(), number, &kinds);
    let row = table.insert(&name, &format!("node-{name}"));
    write(table, row, &new);
    let at = hosts.partition_point(|other| table.row_of(&other.name).expect("it is there") < row);
    hosts.insert(at, new);
}

fn removed(table: &mut HostTable, row: Row, host: &Host) {
    for uuid in &host.instances {
        table.remove_instance(row, *uuid);
    }
    table.remove(row);
}

fn give_back(table: &mut HostTable, row: Row, host: &mut Host) {
    let consumed = table.view(row).consumed();
    table.give_back(row, &consumed);
    host.resources.vcpus_used -= consumed.vcpus;
    host.resources.memory_mb_used -= consumed.memory_mb;
    host.resources.disk_gb_used -= consumed.disk_gb;
    host.placed -= consumed.instances;
}
