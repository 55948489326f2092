//! simulation, process and real-VM tests, benches, the lab.
