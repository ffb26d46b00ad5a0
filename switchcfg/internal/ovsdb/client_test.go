// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovsdb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestMain(m *testing.M) { lab.Main(m) }

const (
	northbound = "OVN_Northbound"
	toy        = `{"name":"Toy","version":"1.0.0","tables":{"Thing":{"isRoot":true,"indexes":[["name"]],"columns":{"name":{"type":"string"}}}}}`
	toyPort    = "127.0.0.1:6699"
	toySSLPort = "127.0.0.1:6698"
)

// server is an ovsdb-server with the database Toy, on tcp and ssl.
type server struct {
	cmd   *exec.Cmd
	argv  []string
	certs lab.Certificates
}

func startToy(t *testing.T) *server {
	t.Helper()
	lab.Need(t, lab.OVS)
	labtest.Start(t, lab.Options{})
	dir := t.TempDir()
	schema, db := filepath.Join(dir, "toy.ovsschema"), filepath.Join(dir, "toy.db")
	must(t, os.WriteFile(schema, []byte(toy), 0o600))
	if out, err := exec.CommandContext(t.Context(), "ovsdb-tool", "create", db, schema).CombinedOutput(); err != nil {
		t.Fatalf("ovsdb-tool: %v: %s", err, out)
	}
	s := &server{certs: lab.CertificatesIn(dir)}
	must(t, s.certs.Write("toy", netip.MustParseAddr("127.0.0.1")))
	s.argv = []string{
		"ovsdb-server", db, "--remote=ptcp:6699:127.0.0.1", "--remote=pssl:6698:127.0.0.1", "--unixctl=" + filepath.Join(dir, "ctl"),
		"--private-key=" + s.certs.ServerKey, "--certificate=" + s.certs.Server, "--ca-cert=" + s.certs.CA, "-vconsole:off",
	}
	s.start(t)
	t.Cleanup(func() { s.kill() })
	return s
}

// start returns when the server accepts connections.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), s.argv[0], s.argv[1:]...)
	must(t, s.cmd.Start())
	for {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", toySSLPort)
		if err == nil {
			must(t, c.Close())
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()
}

func (s *server) tls() vnet.TLS {
	return vnet.TLS{Key: s.certs.ClientKey, Certificate: s.certs.Client, CA: s.certs.CA}
}

func client(t *testing.T, database, endpoints string, files vnet.TLS) *ovsdb.Client {
	t.Helper()
	var all vnet.Endpoints
	must(t, all.UnmarshalText([]byte(endpoints)))
	c := &ovsdb.Client{Product: "the toy", Database: database, Endpoints: all, TLS: files}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// named is a row with a name.
type named struct{ Name string }

func (n *named) Column(name string) any {
	if name == "name" {
		return &n.Name
	}
	return nil
}

func insert(ctx context.Context, c *ovsdb.Client, table, name string) error {
	_, err := c.Transact(ctx, ovsdb.Operation{Op: "insert", Table: table, Row: ovsdb.Row{"name": name}})
	return err
}

func names(ctx context.Context, c *ovsdb.Client, table string) (string, error) {
	results, err := c.Transact(ctx, ovsdb.Select(table, []ovsdb.Condition{}, "name"))
	if err != nil {
		return "", err
	}
	rows, err := ovsdb.Rows[named](results, 0)
	all := ""
	for _, row := range rows {
		all += row.Name + " "
	}
	return all, err
}

// relay passes connections on to the toy, and counts them. In place of the first
// answer on the first connection it gives another, unless that is empty.
func relay(t *testing.T, answer string) (endpoint string, connections *atomic.Int32) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	connections = new(atomic.Int32)
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", toyPort)
			if err != nil {
				return
			}
			if connections.Add(1) == 1 && answer != "" {
				_, _ = from.Read(make([]byte, 1))
				_, _ = from.Write([]byte(answer))
				continue
			}
			go io.Copy(to, from) //nolint:errcheck // it ends with the test
			go io.Copy(from, to) //nolint:errcheck // it ends with the test
		}
	}()
	return "tcp:" + listener.Addr().String(), connections
}

// TestOneConnection opens a client as drivers do.
func TestOneConnection(t *testing.T) {
	startToy(t)
	endpoint, connections := relay(t, "")
	c := client(t, "Toy", endpoint, vnet.TLS{})
	_, err := c.Schema(t.Context())
	must(t, err)
	if _, err := names(t.Context(), c, "Thing"); err != nil || connections.Load() != 1 {
		t.Errorf("got %v and %d connections, want one", err, connections.Load())
	}
}

// TestNonsense has a client go on after an answer that is none.
func TestNonsense(t *testing.T) {
	startToy(t)
	for _, answer := range []string{"]", `{"id":1,"result":7,"error":null}`, `{"id":1,"result":null,"error":"?"}`} {
		endpoint, _ := relay(t, answer)
		c := client(t, "Toy", endpoint, vnet.TLS{})
		if _, err := names(t.Context(), c, "Thing"); err == nil {
			t.Errorf("%s is an answer", answer)
		}
		if _, err := names(t.Context(), c, "Thing"); err != nil {
			t.Errorf("after %s: %v", answer, err)
		}
	}
}

// TestTransports writes through one transport and reads through the other.
func TestTransports(t *testing.T) {
	s := startToy(t)
	must(t, insert(t.Context(), client(t, "Toy", "tcp:"+toyPort, vnet.TLS{}), "Thing", "a"))
	if got, err := names(t.Context(), client(t, "Toy", "ssl:"+toySSLPort, s.tls()), "Thing"); err != nil || got != "a " {
		t.Errorf("got %q, %v, want a", got, err)
	}
}

// TestUntrusted takes away, one by one, what TLS needs.
func TestUntrusted(t *testing.T) {
	s := startToy(t)
	stranger := lab.CertificatesIn(t.TempDir())
	must(t, stranger.Write("stranger"))
	open := filepath.Join(t.TempDir(), "open.pem")
	key, err := os.ReadFile(s.certs.ClientKey)
	must(t, err)
	must(t, os.WriteFile(open, key, 0o600))
	must(t, os.Chmod(open, 0o644)) //nolint:gosec // it is the case
	for name, tt := range map[string]struct {
		spoil func(*vnet.TLS)
		want  string
		is    error
	}{
		"wrong CA": {
			func(f *vnet.TLS) { f.CA = s.certs.WrongCA },
			"its certificate is not signed by " + s.certs.WrongCA, switchcfg.ErrPermission,
		},
		"readable key": {
			func(f *vnet.TLS) { f.Key = open },
			"others may read it (mode 0644): chmod 600 " + open, nil,
		},
		"no certificate": {
			func(f *vnet.TLS) { f.Certificate = "/nowhere.pem" },
			"certificate /nowhere.pem: ", nil,
		},
		"certificate of another CA": {
			func(f *vnet.TLS) { f.Certificate, f.Key = stranger.Client, stranger.ClientKey },
			"it refuses the certificate " + stranger.Client, switchcfg.ErrPermission,
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := s.tls()
			tt.spoil(&files)
			_, err := names(t.Context(), client(t, "Toy", "ssl:"+toySSLPort, files), "Thing")
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := names(t.Context(), client(t, "Toy", "ssl:"+toyPort, s.tls()), "Thing"); !errors.Is(err, switchcfg.ErrUnreachable) {
		t.Errorf("TLS with a server that speaks plainly: got %v, want unreachable", err)
	}
}

// TestRestart ends the server while a transaction waits in it.
func TestRestart(t *testing.T) {
	s := startToy(t)
	c := client(t, "Toy", "tcp:"+toyPort, vnet.TLS{})
	must(t, insert(t.Context(), c, "Thing", "a"))
	wait := 60_000
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		time.Sleep(200 * time.Millisecond)
		s.kill()
	}()
	begin := time.Now()
	_, err := c.Transact(t.Context(),
		ovsdb.Operation{Op: "insert", Table: "Thing", Row: ovsdb.Row{"name": "half"}},
		ovsdb.Operation{
			Op: "wait", Table: "Thing", Where: ovsdb.Where("name", "never"), Columns: []string{"name"},
			Until: "==", Rows: []ovsdb.Row{{"name": "never"}}, Timeout: &wait,
		})
	<-killed
	if !errors.Is(err, switchcfg.ErrUnreachable) || time.Since(begin) > 5*time.Second {
		t.Errorf("got %v after %v, want unreachable at once", err, time.Since(begin))
	}
	if _, err := names(t.Context(), c, "Thing"); !errors.Is(err, switchcfg.ErrUnreachable) {
		t.Errorf("while it is down: got %v, want unreachable", err)
	}
	s.start(t)
	if got, err := names(t.Context(), c, "Thing"); err != nil || got != "a " {
		t.Errorf("after the restart: got %q, %v, want a and nothing of the transaction", got, err)
	}
}

// TestDeaf talks to servers that accept and never answer: one endpoint, and as
// the first of two.
func TestDeaf(t *testing.T) {
	s := startToy(t)
	deaf, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = deaf.Close() })
	address := deaf.Addr().String()
	for _, tt := range []struct {
		endpoints string
		files     vnet.TLS
		answered  bool
	}{
		{"tcp:" + address, vnet.TLS{}, false},
		{"ssl:" + address, s.tls(), false},
		{"tcp:" + address + ",tcp:" + toyPort, vnet.TLS{}, true},
		{"ssl:" + address + ",tcp:" + toyPort, s.tls(), true},
	} {
		t.Run(tt.endpoints, func(t *testing.T) {
			const limit = time.Second
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			begin := time.Now()
			_, err := names(ctx, client(t, "Toy", tt.endpoints, tt.files), "Thing")
			took := time.Since(begin)
			switch {
			case tt.answered && err != nil:
				t.Errorf("got %v, want the answer of the other", err)
			case !tt.answered && (!errors.Is(err, switchcfg.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded)):
				t.Errorf("got %v, want unreachable and the deadline", err)
			case took > limit+500*time.Millisecond:
				t.Errorf("took %v with a deadline of %v", took, limit)
			}
		})
	}
}

// TestSchema asks what there is, and for what there is not.
func TestSchema(t *testing.T) {
	startToy(t)
	c := client(t, "Toy", "tcp:"+toyPort, vnet.TLS{})
	schema, err := c.Schema(t.Context())
	if err != nil || !schema.Has("Thing", "name") || schema.Has("Thing", "color") || schema.Has("Gadget", "name") {
		t.Errorf("got %v, %v", schema, err)
	}
	var refused *ovsdb.OpError
	if _, err := names(t.Context(), c, "Gadget"); !errors.As(err, &refused) || ovsdb.IsConflict(err) {
		t.Errorf("a table that is not there: got %v, want a refusal", err)
	}
	if got, err := names(t.Context(), c, "Thing"); err != nil || got != "" {
		t.Errorf("after a refusal: got %q, %v", got, err)
	}
	if _, err := client(t, "Other", "tcp:"+toyPort, vnet.TLS{}).Schema(t.Context()); err == nil {
		t.Error("a database that is not there has a schema")
	}
	two := client(t, "Other", fmt.Sprintf("tcp:%s,tcp:%s", toyPort, toyPort), vnet.TLS{})
	if _, err := names(t.Context(), two, "Thing"); !errors.Is(err, switchcfg.ErrUnreachable) || !strings.Contains(err.Error(), "no database Other") {
		t.Errorf("no such database on any server: got %v", err)
	}
}

// TestConflict has the server refuse something for good, and something that
// another look may help with.
func TestConflict(t *testing.T) {
	startToy(t)
	c := client(t, "Toy", "tcp:"+toyPort, vnet.TLS{})
	must(t, insert(t.Context(), c, "Thing", "a"))
	now := 0
	_, errWait := c.Transact(t.Context(), ovsdb.Operation{
		Op: "wait", Table: "Thing", Timeout: &now, Until: "==", Where: ovsdb.Where("name", "a"), Columns: []string{"name"}, Rows: []ovsdb.Row{},
	})
	for _, tt := range []struct {
		err     error
		changes bool
		want    string
	}{
		{insert(t.Context(), c, "Thing", "a"), false, `the database refuses its things: constraint violation: Transaction causes multiple rows in "Thing" table`},
		{errWait, true, "its things keep changing: timed out"},
	} {
		got := ovsdb.Conflict("things", tt.err)
		if !ovsdb.IsConflict(tt.err) || errors.Is(got, switchcfg.ErrUnreachable) != tt.changes || !strings.Contains(got.Error(), tt.want) {
			t.Errorf("got %v, want %s", got, tt.want)
		}
	}
}

// askFollowers talks to servers that do not lead: one alone passes on what it is
// asked for, and of several none will do.
func askFollowers(t *testing.T, central *lab.Central, leader *lab.Daemon) {
	t.Helper()
	var followers []string
	for i, endpoint := range strings.Split(central.NBTCP(), ",") {
		if central.NB()[i] != leader {
			followers = append(followers, endpoint)
		}
	}
	const table = "Logical_Switch"
	_, err := names(t.Context(), client(t, northbound, strings.Join(followers, ","), vnet.TLS{}), table)
	if !errors.Is(err, switchcfg.ErrUnreachable) || strings.Count(err.Error(), "it is not the leader") != 2 {
		t.Errorf("two followers: got %v, want that neither leads", err)
	}
	alone := client(t, northbound, followers[0], vnet.TLS{})
	if err := insert(t.Context(), alone, table, "c"); err != nil {
		t.Errorf("one follower: %v", err)
	}
	got, err := names(t.Context(), client(t, northbound, central.NBTCP(), vnet.TLS{}), table)
	if err != nil || !strings.Contains(got, "c") {
		t.Errorf("from the leader: got %q, %v, want what the follower was told", got, err)
	}
	must(t, alone.Close())
}

// TestCluster talks to a raft cluster over tcp and ssl, and takes its leader and
// then its majority away.
func TestCluster(t *testing.T) {
	lab.Need(t, lab.OVN)
	ctx := t.Context()
	cluster := labtest.StartCluster(t, lab.ClusterOptions{Hosts: 1, OVN: &lab.OVNOptions{Servers: 3, SSL: true}})
	central := cluster.Central
	certs := central.Certificates()
	const table = "Logical_Switch"
	plain := client(t, northbound, central.NBTCP(), vnet.TLS{})
	secure := client(t, northbound, central.NBSSL(), vnet.TLS{Key: certs.ClientKey, Certificate: certs.Client, CA: certs.CA})
	must(t, insert(ctx, plain, table, "a"))
	if got, err := names(ctx, secure, table); err != nil || got != "a " {
		t.Errorf("over ssl: got %q, %v, want a", got, err)
	}

	first, err := central.Leader(ctx)
	must(t, err)
	askFollowers(t, central, first)
	must(t, first.Kill(ctx))
	for _, c := range []*ovsdb.Client{plain, secure} {
		if _, err := names(ctx, c, table); !errors.Is(err, switchcfg.ErrUnreachable) {
			t.Errorf("the connection to the killed leader: got %v, want unreachable", err)
		}
	}
	second, err := central.Leader(ctx)
	must(t, err)
	must(t, insert(ctx, secure, table, "b"))
	if got, err := names(ctx, plain, table); err != nil || len(strings.Fields(got)) != 3 {
		t.Errorf("from the new leader: got %q, %v, want three", got, err)
	}

	must(t, second.Kill(ctx))
	_ = plain.Close()
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := insert(short, plain, table, "d"); !errors.Is(err, switchcfg.ErrUnreachable) {
		t.Errorf("without a majority: got %v, want unreachable", err)
	}
	must(t, first.Start(ctx))
	must(t, second.Start(ctx))
	_, err = central.Leader(ctx)
	must(t, err)
	if err := insert(ctx, plain, table, "e"); err != nil {
		t.Errorf("with all back: %v", err)
	}
}
