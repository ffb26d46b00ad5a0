// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// nfForward is the number of the forward hook (NF_INET_FORWARD).
const nfForward = 2

// ForwardDrops returns the base chains of the namespace that drop routed packets
// by default, such as "table ip filter, chain FORWARD". Frames between the ports
// of a bridge go through them, too, when br_netfilter is loaded. The rules of
// legacy iptables are not among them.
func ForwardDrops(ctx context.Context) ([]string, error) {
	c, err := Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	var chains []string
	err = retry(ctx, func(ctx context.Context) (err error) {
		chains, err = c.forwardDrops(ctx)
		return err
	})
	return chains, err
}

func (c *Conn) forwardDrops(ctx context.Context) (chains []string, err error) {
	for _, family := range []struct {
		number uint8
		name   string
	}{{unix.NFPROTO_IPV4, "ip"}, {unix.NFPROTO_IPV6, "ip6"}, {unix.NFPROTO_INET, "inet"}} {
		m := newMessage(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, "chains")
		m.family = family.number
		err := c.dump(ctx, m, func(payload []byte) error {
			got, err := parseChain(payload)
			if got.isBase && got.hook == nfForward && got.policy == nfDrop {
				chains = append(chains, fmt.Sprintf("table %s %s, chain %s", family.name, got.table, got.name))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return chains, nil
}
