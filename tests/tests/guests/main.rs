//! Real guests: QEMU under libvirt on the hosts of a lab, managed by real daemons. What is asked of them is what a person
//! would: do they run, where, under which address, and what happens to them when something beside them dies.
//!
//! Starting such a cluster takes seconds, so a test is a life here, with many questions on the way.

mod cache;
mod console;
mod console_lost;
mod datasources;
mod disks;
mod doctor;
mod foreign;
mod foreign_changes;
mod guest;
mod hardware;
mod killed;
mod laptop;
mod life;
mod metadata;
mod names;
mod network;
mod overrides;
mod shell;
mod support;
mod survival;
mod upgrade;
mod verbs;
