//! The packet filter on each guest's own interface, as a libvirt network filter. It says what a guest may send at all, so that
//! no other guest of its bridge has to be on its guard; [`firewall`](super::firewall) says whom it may send it to.

use super::{calls::CallError, layout::FILTER};
use virt::{connect::Connect, error::ErrorNumber};

/// libvirt's `clean-traffic` lets a guest send under its own MAC and address only, and nothing but IPv4 and ARP. It lets it
/// answer as a DHCP server, though, and the guests beside it would take their routes from it. The priority is before all
/// of `clean-traffic`, which accepts. The UUID is fixed, for libvirt takes no second filter of the same name.
const XML: &str = r#"<filter name="waifud-guest" chain="root">
  <uuid>0f1d2b6e-6f0c-4c57-9d35-7a1f0c6b9e42</uuid>
  <rule action="drop" direction="out" priority="-900">
    <ip protocol="udp" srcportstart="67"/>
  </rule>
  <filterref filter="clean-traffic"/>
</filter>
"#;

/// Makes the filter, or brings it to what it should be; libvirt then applies it to guests that run.
pub(super) fn ensure(libvirt: &Connect) -> Result<(), CallError> {
    match libvirt.define_nwfilter_xml(XML) {
        Ok(_) => Ok(()),
        Err(e) if has_no_filters(&e) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Takes the filter away; nothing happens if there is none.
pub(super) fn remove(libvirt: &Connect) -> Result<(), CallError> {
    match libvirt.lookup_nwfilter_by_name(FILTER) {
        Ok(filter) => filter.undefine().map_err(CallError::from),
        Err(e) if has_no_filters(&e) || e.code() == ErrorNumber::NoNwfilter.into() => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The mock driver runs nothing that could be filtered. One that does run guests, without filters, refuses to start them.
fn has_no_filters(error: &virt::error::Error) -> bool {
    error.code() == ErrorNumber::NoSupport.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_called_what_guests_are_told() {
        assert!(XML.contains(&format!("<filter name=\"{FILTER}\"")));
    }

    #[test]
    fn a_driver_without_filters_is_no_trouble() {
        virt::error::clear_error_callback();
        let libvirt = Connect::open(Some("test:///default")).unwrap();
        ensure(&libvirt).unwrap();
        remove(&libvirt).unwrap();
    }
}
