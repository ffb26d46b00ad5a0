// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"strconv"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Keys of Bridge.other_config that say how a bridge takes part in a spanning
// tree ("STP Configuration", "Rapid Spanning Tree Configuration"). Of one that is
// not there Open vSwitch has the default of the standard.
const (
	keySTPPriority  = "stp-priority"
	keySTPHello     = "stp-hello-time"
	keySTPMaxAge    = "stp-max-age"
	keySTPForward   = "stp-forward-delay"
	keyRSTPPriority = "rstp-priority"
	keyRSTPMaxAge   = "rstp-max-age"
	keyRSTPForward  = "rstp-forward-delay"
	keyForwardBPDU  = "forward-bpdu"
	isTrue          = "true"
)

// settings is what the row says of the bridge itself.
func (r ownRow) settings() *vnet.Bridge {
	given := func(key string) vnet.Optional[int] {
		n, err := strconv.Atoi(r.OtherConfig[key])
		return vnet.Optional[int]{Given: err == nil, Value: n}
	}
	seconds := func(key string) time.Duration { return time.Duration(given(key).Value) * time.Second }
	return &vnet.Bridge{
		Owned: true,
		STP:   vnet.ToggleOf(r.STP), Priority: given(keySTPPriority),
		HelloTime: seconds(keySTPHello), MaxAge: seconds(keySTPMaxAge), ForwardDelay: seconds(keySTPForward),
		RSTP: vnet.ToggleOf(r.RSTP), RSTPPriority: given(keyRSTPPriority),
		RSTPMaxAge: seconds(keyRSTPMaxAge), RSTPForwardDelay: seconds(keyRSTPForward),
		ForwardBPDU: vnet.ToggleOf(r.OtherConfig[keyForwardBPDU] == isTrue),
	}
}

// spanning adds what makes the bridge itself like that.
func (tx *transaction) spanning(want vnet.Bridge) {
	row := tx.own.bridge
	if stp, rstp := want.STP == vnet.ToggleOn, want.RSTP == vnet.ToggleOn; stp != row.STP || rstp != row.RSTP {
		tx.update("Bridge", tx.bridge, ovsdb.Row{"stp_enable": stp, "rstp_enable": rstp})
	}
	wanted := map[string]string{}
	seconds := func(key string, d time.Duration) {
		wanted[key] = ""
		if d != 0 {
			wanted[key] = strconv.Itoa(int(d / time.Second))
		}
	}
	priority := func(key string, n vnet.Optional[int]) {
		wanted[key] = ""
		if n.Given {
			wanted[key] = strconv.Itoa(n.Value)
		}
	}
	priority(keySTPPriority, want.Priority)
	seconds(keySTPHello, want.HelloTime)
	seconds(keySTPMaxAge, want.MaxAge)
	seconds(keySTPForward, want.ForwardDelay)
	priority(keyRSTPPriority, want.RSTPPriority)
	seconds(keyRSTPMaxAge, want.RSTPMaxAge)
	seconds(keyRSTPForward, want.RSTPForwardDelay)
	if on := want.ForwardBPDU == vnet.ToggleOn; on != (row.OtherConfig[keyForwardBPDU] == isTrue) {
		wanted[keyForwardBPDU] = ""
		if on {
			wanted[keyForwardBPDU] = isTrue
		}
	}
	tx.configure(row.OtherConfig, wanted)
}

// configure adds what changes these keys of the bridge's other_config. A key
// that is wanted without a value goes.
func (tx *transaction) configure(have ovsdb.Dict, wanted map[string]string) {
	drop, put := ovsdb.Set[string]{}, ovsdb.Dict{}
	for key, value := range wanted {
		if have[key] == value {
			continue
		}
		drop = append(drop, key)
		if value != "" {
			put[key] = value
		}
	}
	if len(drop) == 0 {
		return
	}
	mutations := []ovsdb.Condition{{"other_config", "delete", drop}}
	if len(put) > 0 {
		mutations = append(mutations, ovsdb.Condition{"other_config", "insert", put})
	}
	tx.mutate(ovsdb.Where("_uuid", tx.bridge), mutations...)
}
