// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
)

func (v *validator) hosts() {
	uris, chassis := map[string]string{}, map[string]string{}
	for _, h := range v.topology.Hosts {
		o := object{v, "host " + h.Name, "hosts." + h.Name}
		if h.Name == "" || strings.ContainsAny(h.Name, " \n\t/") {
			o.value("name", fmt.Sprintf("the name %q", h.Name), "a name without spaces and slashes")
		}
		const example = "qemu+ssh://kvm1/system"
		uri, err := url.Parse(h.URI)
		switch {
		case h.URI == "":
			o.missing("uri", "uri: that of its libvirt, such as "+example)
		case err != nil || uri.Scheme == "" || !strings.HasPrefix(uri.Path, "/"):
			o.value("uri", fmt.Sprintf("%q", h.URI), "a URI of libvirt, such as "+example)
		case uris[h.URI] != "":
			o.duplicate("uri", "that of host "+uris[h.URI], "one of its own")
		}
		uris[h.URI] = h.Name
		name := cmp.Or(h.Chassis, h.Name)
		if chassis[name] != "" {
			o.duplicate("chassis", fmt.Sprintf("chassis %s, that of host %s", name, chassis[name]), "one of its own")
		}
		chassis[name] = h.Name
	}
}

// elsewhere reports whether the URI names another machine.
func (h Host) elsewhere() bool {
	uri, err := url.Parse(h.URI)
	return err == nil && uri.Host != ""
}
