// Asks LND's own code what the twin's kernels are asked in
// tests/integration/twin/test_lnd_source.py. Compiled as part of LND's package
// routing, because most of what it calls is not exported.
package routing

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcutil"
	"github.com/lightningnetwork/lnd/clock"
	"github.com/lightningnetwork/lnd/fn/v2"
	graphdb "github.com/lightningnetwork/lnd/graph/db"
	"github.com/lightningnetwork/lnd/graph/db/models"
	"github.com/lightningnetwork/lnd/lnwire"
	"github.com/lightningnetwork/lnd/routing/route"
)

// Times are nanoseconds, amounts msat where no other unit is named.

type policy struct {
	Base, Rate     uint64
	InBase, InRate int32
	Min, Max       uint64
	Delta          uint16
	Disabled       bool
}

type channel struct {
	ID          uint64
	Nodes       [2]int
	CapacitySat int64
	Policies    [2]policy
}

type estimatorSettings struct {
	Bimodal        bool
	HopProbability float64
	Weight         float64
	HalfLife       int64
	Fraction       float64
	Scale          uint64
	NodeWeight     float64
	DecayTime      int64
}

type searchSettings struct {
	MinProbability float64
	AttemptCost    uint64
	AttemptCostPpm int64
	CltvLimit      uint32
	TimePreference float64
	Height         int32
	FinalDelta     uint16
}

// step is the end of one attempt; FailedAt -1 says that it settled.
type step struct {
	Nodes    []int
	Amounts  []uint64
	FailedAt int
	Code     int
	Now      int64
}

type ask struct {
	Sender, From, To int
	Amount           uint64
	CapacitySat      int64
	Now              int64
}

type query struct {
	Sender, Target int
	Amount         uint64
	FeeLimit       uint64
	Now            int64
	Bandwidth      map[uint64]uint64
}

type scenario struct {
	Channels  []channel
	Estimator estimatorSettings
	Search    searchSettings
	Steps     []step
	Asks      []ask
	Queries   []query
	// Repeat says how often each query is asked: map order differs.
	Repeat int
}

// result is one pair's history; times are -1 for never.
type result struct {
	Sender, From, To                                     int
	FailedAt, FailedAmount, SucceededAt, SucceededAmount int64
}

type foundRoute struct {
	Channels, Amounts []uint64
	Expiries          []uint32
	Error             string
}

type answer struct {
	// Reasons as lnrpc numbers them, 0 for none.
	Reasons       []int
	Probabilities []float64
	Results       []result
	Routes        [][]foundRoute
}

func vertex(node int) route.Vertex { return route.Vertex{byte(node + 1)} }

func message(code int) lnwire.FailureMessage {
	update := lnwire.ChannelUpdate1{}
	switch code {
	case 1:
		return lnwire.NewFailIncorrectDetails(1, 1)
	case 2:
		return &lnwire.FailIncorrectPaymentAmount{}
	case 3:
		return lnwire.NewFinalIncorrectCltvExpiry(1)
	case 4:
		return lnwire.NewFinalIncorrectHtlcAmount(1)
	case 5:
		return &lnwire.FailFinalExpiryTooSoon{}
	case 6:
		return &lnwire.FailInvalidRealm{}
	case 7:
		return lnwire.NewExpiryTooSoon(update)
	case 8:
		return lnwire.NewInvalidOnionVersion(nil)
	case 9:
		return lnwire.NewInvalidOnionHmac(nil)
	case 10:
		return lnwire.NewInvalidOnionKey(nil)
	case 11:
		return lnwire.NewAmountBelowMinimum(1, update)
	case 12:
		return lnwire.NewFeeInsufficient(1, update)
	case 13:
		return lnwire.NewIncorrectCltvExpiry(1, update)
	case 14:
		return lnwire.NewChannelDisabled(0, update)
	case 15:
		return lnwire.NewTemporaryChannelFailure(nil)
	case 16:
		return &lnwire.FailRequiredNodeFeatureMissing{}
	case 17:
		return &lnwire.FailRequiredChannelFeatureMissing{}
	case 18:
		return &lnwire.FailUnknownNextPeer{}
	case 19:
		return &lnwire.FailTemporaryNodeFailure{}
	case 20:
		return &lnwire.FailPermanentNodeFailure{}
	case 21:
		return &lnwire.FailPermanentChannelFailure{}
	case 22:
		return &lnwire.FailExpiryTooFar{}
	case 23:
		return &lnwire.FailMPPTimeout{}
	case 24:
		return lnwire.NewInvalidOnionPayload(0, 0)
	case 25:
		return lnwire.NewInvalidBlinding(
			fn.None[[lnwire.OnionPacketSize]byte](),
		)
	}
	return nil
}

// network is LND's view of a scenario's channels.
type network struct {
	channels []channel
	ofNode   map[route.Vertex][]int
	features *lnwire.FeatureVector
}

func newNetwork(channels []channel) *network {
	n := &network{
		channels: channels,
		ofNode:   make(map[route.Vertex][]int),
		features: lnwire.NewFeatureVector(
			lnwire.NewRawFeatureVector(
				lnwire.TLVOnionPayloadOptional,
				lnwire.PaymentAddrOptional,
				lnwire.MPPOptional,
			), lnwire.Features,
		),
	}
	for index, channel := range channels {
		for _, node := range channel.Nodes {
			key := vertex(node)
			n.ofNode[key] = append(n.ofNode[key], index)
		}
	}
	return n
}

func (n *network) FetchNodeFeatures(context.Context,
	route.Vertex) (*lnwire.FeatureVector, error) {

	return n.features, nil
}

func (n *network) ForEachNodeDirectedChannel(_ context.Context,
	node route.Vertex, cb func(*graphdb.DirectedChannel) error,
	_ func()) error {

	for _, index := range n.ofNode[node] {
		channel := n.channels[index]
		own := 0
		if vertex(channel.Nodes[1]) == node {
			own = 1
		}
		theirs := channel.Policies[1-own]
		err := cb(&graphdb.DirectedChannel{
			ChannelID:    channel.ID,
			IsNode1:      own == 0,
			OtherNode:    vertex(channel.Nodes[1-own]),
			Capacity:     btcutil.Amount(channel.CapacitySat),
			OutPolicySet: true,
			InPolicy: &models.CachedEdgePolicy{
				ChannelID:     channel.ID,
				HasMaxHTLC:    theirs.Max > 0,
				IsDisabled:    theirs.Disabled,
				TimeLockDelta: theirs.Delta,
				MinHTLC:       lnwire.MilliSatoshi(theirs.Min),
				MaxHTLC:       lnwire.MilliSatoshi(theirs.Max),
				FeeBaseMSat:   lnwire.MilliSatoshi(theirs.Base),
				FeeProportionalMillionths: lnwire.MilliSatoshi(
					theirs.Rate,
				),
				ToNodePubKey:   func() route.Vertex { return node },
				ToNodeFeatures: n.features,
			},
			InboundFee: lnwire.Fee{
				BaseFee: channel.Policies[own].InBase,
				FeeRate: channel.Policies[own].InRate,
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// balances says what the sender's channels can send, whatever the amount.
type balances map[uint64]uint64

func (b balances) availableChanBandwidth(id uint64,
	_ lnwire.MilliSatoshi) (lnwire.MilliSatoshi, bool) {

	return lnwire.MilliSatoshi(b[id]), true
}

func (b balances) isCustomHTLCPayment() bool { return false }

// senders are the mission controls of all senders of a scenario.
type senders struct {
	clock     *clock.TestClock
	estimator Estimator
	known     map[int]*MissionControl
}

func newSenders(t *testing.T, s estimatorSettings) *senders {
	var (
		estimator Estimator
		err       error
	)
	if s.Bimodal {
		estimator, err = NewBimodalEstimator(BimodalConfig{
			BimodalNodeWeight: s.NodeWeight,
			BimodalScaleMsat:  lnwire.MilliSatoshi(s.Scale),
			BimodalDecayTime:  time.Duration(s.DecayTime),
		})
	} else {
		estimator, err = NewAprioriEstimator(AprioriConfig{
			PenaltyHalfLife:       time.Duration(s.HalfLife),
			AprioriHopProbability: s.HopProbability,
			AprioriWeight:         s.Weight,
			CapacityFraction:      s.Fraction,
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return &senders{
		clock:     clock.NewTestClock(time.Unix(0, 0)),
		estimator: estimator,
		known:     make(map[int]*MissionControl),
	}
}

func (s *senders) at(node int, now int64) *MissionControl {
	s.clock.SetTime(time.Unix(0, now))
	if s.known[node] == nil {
		s.known[node] = &MissionControl{
			cfg: &mcConfig{clock: s.clock, selfNode: vertex(node)},
			state: newMissionControlState(
				DefaultMinFailureRelaxInterval,
			),
			estimator: s.estimator,
			log:       log,
		}
	}
	return s.known[node]
}

func (s *senders) report(one step) int {
	rt := &route.Route{
		SourcePubKey: vertex(one.Nodes[0]),
		TotalAmount:  lnwire.MilliSatoshi(one.Amounts[0]),
	}
	for hop, node := range one.Nodes[1:] {
		// A hop says what its node is to forward: the next amount.
		next := min(hop+1, len(one.Amounts)-1)
		rt.Hops = append(rt.Hops, &route.Hop{
			PubKeyBytes:  vertex(node),
			AmtToForward: lnwire.MilliSatoshi(one.Amounts[next]),
		})
	}
	failure := fn.None[paymentFailure]()
	switch {
	case one.FailedAt >= 0 && one.Code == 999:
		failure = fn.Some(newPaymentFailure(nil, nil))
	case one.FailedAt >= 0:
		failure = fn.Some(
			newPaymentFailure(&one.FailedAt, message(one.Code)),
		)
	}
	now := time.Unix(0, one.Now)
	reason := s.at(one.Nodes[0], one.Now).applyPaymentResult(
		newPaymentResult(0, extractMCRoute(rt), now, now, failure),
	)
	if reason == nil {
		return 0
	}
	return int(*reason) + 1
}

func (s *senders) results() []result {
	nanoseconds := func(at time.Time) int64 {
		if at.IsZero() {
			return -1
		}
		return at.UnixNano()
	}
	var all []result
	for node, control := range s.known {
		for _, pair := range control.GetHistorySnapshot().Pairs {
			all = append(all, result{
				Sender:          node,
				From:            int(pair.Pair.From[0]) - 1,
				To:              int(pair.Pair.To[0]) - 1,
				FailedAt:        nanoseconds(pair.FailTime),
				FailedAmount:    int64(pair.FailAmt),
				SucceededAt:     nanoseconds(pair.SuccessTime),
				SucceededAmount: int64(pair.SuccessAmt),
			})
		}
	}
	return all
}

func (s *senders) search(n *network, q query, how searchSettings) foundRoute {
	address := fn.Some([32]byte{1})
	amount := lnwire.MilliSatoshi(q.Amount)
	path, _, err := findPath(
		&graphParams{graph: n, bandwidthHints: balances(q.Bandwidth)},
		&RestrictParams{
			ProbabilitySource: s.at(q.Sender, q.Now).GetProbability,
			FeeLimit:          lnwire.MilliSatoshi(q.FeeLimit),
			CltvLimit:         how.CltvLimit - uint32(how.FinalDelta),
			DestFeatures:      n.features,
			PaymentAddr:       address,
		},
		&PathFindingConfig{
			AttemptCost:    lnwire.MilliSatoshi(how.AttemptCost),
			AttemptCostPPM: how.AttemptCostPpm,
			MinProbability: how.MinProbability,
		},
		vertex(q.Sender), vertex(q.Sender), vertex(q.Target), amount,
		how.TimePreference, how.Height+int32(how.FinalDelta),
	)
	if err != nil {
		return foundRoute{Error: err.Error()}
	}
	rt, err := newRoute(
		vertex(q.Sender), path, uint32(how.Height), finalHopParams{
			amt: amount, totalAmt: amount,
			cltvDelta: how.FinalDelta, paymentAddr: address,
		}, nil,
	)
	if err != nil {
		return foundRoute{Error: err.Error()}
	}
	found := foundRoute{
		Amounts:  []uint64{uint64(rt.TotalAmount)},
		Expiries: []uint32{rt.TotalTimeLock},
	}
	for index, hop := range rt.Hops {
		found.Channels = append(found.Channels, hop.ChannelID)
		if index < len(rt.Hops)-1 {
			found.Amounts = append(
				found.Amounts, uint64(hop.AmtToForward),
			)
			found.Expiries = append(
				found.Expiries, hop.OutgoingTimeLock,
			)
		}
	}
	return found
}

func TestOracle(t *testing.T) {
	data, err := os.ReadFile(os.Getenv("ORACLE_QUESTIONS"))
	if err != nil {
		t.Fatal(err)
	}
	var scenarios []scenario
	if err := json.Unmarshal(data, &scenarios); err != nil {
		t.Fatal(err)
	}
	answers := make([]answer, len(scenarios))
	for index, one := range scenarios {
		given := &answers[index]
		all := newSenders(t, one.Estimator)
		for _, step := range one.Steps {
			given.Reasons = append(given.Reasons, all.report(step))
		}
		for _, ask := range one.Asks {
			probability := all.at(ask.Sender, ask.Now).GetProbability(
				vertex(ask.From), vertex(ask.To),
				lnwire.MilliSatoshi(ask.Amount),
				btcutil.Amount(ask.CapacitySat),
			)
			given.Probabilities = append(
				given.Probabilities, probability,
			)
		}
		graph := newNetwork(one.Channels)
		for _, query := range one.Queries {
			var routes []foundRoute
			for i := 0; i < one.Repeat; i++ {
				routes = append(
					routes, all.search(graph, query, one.Search),
				)
			}
			given.Routes = append(given.Routes, routes)
		}
		given.Results = all.results()
	}
	out, err := json.Marshal(answers)
	if err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(os.Getenv("ORACLE_ANSWERS"), out, 0o600)
	if err != nil {
		t.Fatal(err)
	}
}
