//! The keys that cloud-init knows at the top level of a cloud-config.

/// All of `cloudinit/config/schemas/schema-cloud-config-v1.json` in 22.4, 23.4, 24.4, 25.3 and 26.2 (what one release
/// dropped, another still knows), and those that cloud-init reads without having them in its schema (22.4
/// `doc/rtd/reference`, base configuration). In order, so that it can be searched.
const KNOWN: [&str; 108] = [
    "allow_public_ssh_keys",
    "ansible",
    "apk_repos",
    "apt",
    "apt_pipelining",
    "apt_reboot_if_required",
    "apt_update",
    "apt_upgrade",
    "authkey_hash",
    "autoinstall",
    "bootcmd",
    "byobu_by_default",
    "ca-certs",
    "ca_certs",
    "chef",
    "chpasswd",
    "cloud_config_modules",
    "cloud_final_modules",
    "cloud_init_modules",
    "create_hostname_file",
    "datasource",
    "datasource_list",
    "debconf_selections",
    "def_log_file",
    "device_aliases",
    "disable_ec2_metadata",
    "disable_root",
    "disable_root_opts",
    "disk_setup",
    "drivers",
    "fan",
    "final_message",
    "fqdn",
    "fs_setup",
    "groups",
    "growpart",
    "grub-dpkg",
    "grub_dpkg",
    "hostname",
    "keyboard",
    "landscape",
    "launch-index",
    "locale",
    "locale_configfile",
    "log_cfgs",
    "lxd",
    "manage_etc_hosts",
    "manage_resolv_conf",
    "manual_cache_clean",
    "mcollective",
    "merge_how",
    "merge_type",
    "migrate",
    "mount_default_fields",
    "mounts",
    "no_ssh_fingerprints",
    "ntp",
    "output",
    "package_reboot_if_required",
    "package_update",
    "package_upgrade",
    "packages",
    "password",
    "phone_home",
    "power_state",
    "prefer_fqdn_over_hostname",
    "preserve_hostname",
    "puppet",
    "random_seed",
    "reporting",
    "resize_rootfs",
    "resolv_conf",
    "rh_subscription",
    "rpi",
    "rsyslog",
    "runcmd",
    "salt_minion",
    "snap",
    "spacewalk",
    "ssh",
    "ssh_authorized_keys",
    "ssh_deletekeys",
    "ssh_fp_console_blacklist",
    "ssh_genkeytypes",
    "ssh_import_id",
    "ssh_key_console_blacklist",
    "ssh_keys",
    "ssh_publish_hostkeys",
    "ssh_pwauth",
    "ssh_quiet_keygen",
    "swap",
    "syslog_fix_perms",
    "system_info",
    "timezone",
    "ubuntu_advantage",
    "ubuntu_pro",
    "updates",
    "user",
    "users",
    "vendor_data",
    "vendor_data2",
    "version",
    "warnings",
    "wireguard",
    "write_files",
    "yum_repo_dir",
    "yum_repos",
    "zypper",
];

/// Two edits are a slip, three make another word.
const SLIP: usize = 2;

/// Does any release know this key?
pub(super) fn known(key: &str) -> bool {
    KNOWN.binary_search(&key).is_ok()
}

/// The known key that an unknown one was probably meant to be. The nearest; of equally near ones the first.
pub(super) fn meant(key: &str) -> Option<&'static str> {
    let plain = key.to_ascii_lowercase().replace(['-', ' '], "_");
    let near = KNOWN.into_iter().map(|known| (strsim::osa_distance(&plain, known), known));
    // A word of three letters is two slips away from most others of three.
    near.filter(|(distance, known)| *distance <= SLIP && distance * 2 < known.len()).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_slips_are_understood() {
        assert!(KNOWN.is_sorted_by(|a, b| a < b));
        for (slip, key) in [
            ("run_cmd", "runcmd"),
            ("write-files", "write_files"),
            ("package", "packages"),
            ("Hostname", "hostname"),
            ("usres", "users"),
        ] {
            assert_eq!(meant(slip), Some(key));
        }
        assert_eq!(meant("services"), None);
        assert_eq!(meant("x"), None);
    }
}
