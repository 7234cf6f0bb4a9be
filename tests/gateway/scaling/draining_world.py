# long because all that can happen next is one list, told in order: gateways, requests, leaders, time
"""A small world in which gateway/scaling/draining.py is lived through, whatever the order of things: two gateways, one or two leaders in
them, one replica, two models of which only one fits, a few requests.

A state is a value. `steps` gives all that can happen next, each with what it is called; whoever follows them all has seen every
interleaving. A process that is stopped is one that takes no step while others do and time goes on: it goes on later with what it knew.

Time goes by in ticks. A beat lets its member send for as many as `lasts`; whose beat stood still for one more is out. Whoever took no step
meanwhile was paused. There are `pauses` ticks, and as many more as it takes to find that a gateway is silent because it crashed.

    request   waits -> sent (its bytes are on the way, a streamed body for long) -> runs -> replied -> answered
                ^-------- missed (Triton's 404) <-'                                   '-> holds, of a sequence's first call -> sent ...
    ends      answered; refused, before it ran; failed, as its place was cut; lost, a sequence whose second call was told so; unknown, as
              its gateway crashed
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from gateway.scaling.draining import (
    Beat,
    Fence,
    Heard,
    Member,
    Move,
    Order,
    Patience,
    Placements,
    Said,
    Spot,
    Watch,
    due,
    moved,
    placed,
)
from gateway.scaling.residency import Phase
from tests.gateway.scaling.draining_states import (
    ENDS,
    NOW,
    Asked,
    Broken,
    Call,
    Knows,
    Leader,
    Process,
    State,
    Step,
    Told,
    Written,
    as_told,
    beaten,
    put,
    with_call,
    with_leader,
)

SPOTS = (Spot("r", "a"), Spot("r", "b"))
_MARGIN = 0.4
_SAID = {"away": Said.AWAY, "ready": Said.READY, "broken": Said.READY, "unloading": Said.CHANGING}
_HELD = ("sent", "runs", "replied", "missed", "holds")
_WITH_ITS_GATEWAY = ("waits", "replied", "missed", "holds")  # what ends when that crashes


@dataclass
class World:
    """`member`, `watch` and `fence` are what is lived through: a variant that breaks a promise must be found."""

    asked: tuple[Asked, ...]
    pauses: int = 1
    whims: int = 1  # of the leader: to drain or to keep for no reason
    usurpers: int = 1
    crashes: int = 1
    breaks: int = 0  # places whose model dies under its calls
    mortals: tuple[int, ...] = (0, 1)
    certified: bool = False  # a crash is known at once, so that nobody has to find out by silence
    lasts: int = 1
    forgets: bool = True  # states that cannot lead to different things count as one; not for a leader that is wrong about it
    joins: bool = False  # the second gateway comes later
    member: type[Member] = Member
    watch: type[Watch] = Watch
    fence: type[Fence] = Fence
    reads_first: bool = False  # before it beats, which is wrong
    rows: list[Placements] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _ids: dict[object, int] = field(default_factory=dict)
    _known: dict[Process, Knows] = field(default_factory=dict)
    _reads: dict[tuple[Process, int], Process] = field(default_factory=dict)
    _hearings: dict[object, Leader] = field(default_factory=dict)
    _forgotten: dict[object, tuple[Leader | None, ...]] = field(default_factory=dict)
    _dues: dict[object, Move | Order | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._patience = Patience(silence_seconds=self.lasts + _MARGIN, margin_seconds=_MARGIN)
        self._out = self.lasts + 1

    def begin(self) -> State:
        """The first model is READY, everybody has read that, the first gateway leads."""
        loading = placed(Placements(), SPOTS[0], 1, 1)
        assert loading is not None
        row = moved(loading, SPOTS[0], Phase.READY)
        process = Process(self._id(row), self.lasts, None)
        beat = Written(frozenset(), is_dead=False, still=0)
        return State(
            row=self._id(row),
            fence=row.version,
            triton=("ready", "away"),
            loads=(row.places[SPOTS[0]].loaded, 0),
            cut=(0, 0),
            gateways=(process, None if self.joins else process),
            beats=(beat, None if self.joins else beat),
            leaders=(Leader(), None),
            calls=tuple(Call() for _ in self.asked),
            pauses=self.pauses,
            whims=self.whims,
            usurpers=self.usurpers,
            crashes=self.crashes,
            breaks=self.breaks,
        )

    def _id(self, row: Placements) -> int:
        """Rows are known by a number, so that states are quickly compared."""
        key = (row.version, frozenset(row.places.items()))
        if key not in self._ids:
            self._ids[key] = len(self.rows)
            self.rows.append(row)
            places = (f"{spot.model} {it.phase.name}" for spot, it in row.places.items())
            self._names.append(f"{row.version}: {', '.join(places) or 'nothing'}")
        return self._ids[key]

    def steps(self, state: State) -> Iterator[Step]:
        """All that can happen next. Raises Broken when one of them breaks a promise."""
        for gateway, process in enumerate(state.gateways):
            if process is not None:
                yield from self._beats(state, gateway, process)
            yield from self._comes_and_goes(state, gateway)
        for number in range(len(self.asked)):
            yield from self._calls(state, number)
        for gateway, leader in enumerate(state.leaders):
            if leader is not None and leader.order is not None:
                yield Step(
                    f"the order of {gateway} arrives", self._told(state, gateway, leader, leader.order)
                )
            elif leader is not None and state.gateways[gateway] is not None:
                yield from self._leads(state, gateway, leader)
        for model, said in enumerate(state.triton):
            if said == "unloading" and not self._there(state, model, ("runs",)):
                after = state._replace(triton=put(state.triton, model, "away"))
                yield Step(f"{SPOTS[model].model} is UNAVAILABLE", after)
            if said == "ready" and state.breaks:
                after = state._replace(triton=put(state.triton, model, "broken"), breaks=state.breaks - 1)
                yield Step(f"{SPOTS[model].model} breaks", after, is_fair=False)
        yield from self._time(state)

    def told_apart(self, state: State) -> State:
        """Without what a leader has heard that decides nothing any more: before the mark of the drain under way; since when a beat stands
        where no time goes by."""
        if not self.forgets:
            return state
        can_be_silent = (state.crashes or None in state.gateways) and not self.certified
        has_time = bool(state.pauses or can_be_silent)
        key = (state.leaders, state.row, has_time)
        if key not in self._forgotten:
            drain = max(self._drains(state.row), default=None)
            leaders = tuple(it and self._forgetful(it, drain, has_time=has_time) for it in state.leaders)
            self._forgotten[key] = leaders
        return state._replace(leaders=self._forgotten[key])

    def _drains(self, row: int) -> list[int]:
        return [it.version for it in self.rows[row].places.values() if it.phase is Phase.DRAINING]

    def _forgetful(self, leader: Leader, drain: int | None, *, has_time: bool) -> Leader:
        is_old = drain is None or leader.version < drain
        told = tuple(
            it
            and Told(
                it.is_newest and (has_time or it.still == self._out),
                it.still if has_time or it.still == self._out else 0,
                it.is_out and not is_old,
                frozenset() if is_old else it.acknowledged,
            )
            for it in leader.told
        )
        return Leader(-1 if drain is None or is_old else drain, told, leader.order)

    def _there(self, state: State, model: int, at: Collection[str]) -> list[int]:
        """The requests for this model that are there."""
        return [
            number
            for number, asked in enumerate(self.asked)
            if asked.model == model and state.calls[number].at in at
        ]

    # Gateways

    def _member(self, process: Process) -> Member:
        held = Counter({spot: count for spot, count in zip(SPOTS, process.held, strict=True) if count})
        return self.member(self._patience, self.rows[process.view], NOW + process.fresh, held, process.lapsed)

    def _beats(self, state: State, gateway: int, process: Process) -> Iterator[Step]:
        if self.reads_first:
            yield from self._reads_first(state, gateway, process)
            return
        name, beat = self._knows(process).beat
        has_just = process.began == 0 or process.fresh == self.lasts
        if (
            beat != state.beats[gateway]
            or not has_just
            or (process.began is None and process.view != state.row)
        ):
            gateways = put(state.gateways, gateway, process._replace(began=0))
            yield Step(f"{gateway} {name}", beaten(state, gateway, beat)._replace(gateways=gateways))
        if process.began is not None:
            gateways = put(state.gateways, gateway, self._read(process, state.row))
            yield Step(f"{gateway} reads {self._names[state.row]}", state._replace(gateways=gateways))

    def _reads_first(self, state: State, gateway: int, process: Process) -> Iterator[Step]:
        """The wrong way round."""
        if process.began is not None:
            name, beat = self._knows(process).beat
            gateways = put(state.gateways, gateway, self._read(process, process.view))
            yield Step(f"{gateway} {name}", beaten(state, gateway, beat)._replace(gateways=gateways))
        elif process.fresh < self.lasts or process.view != state.row:
            gateways = put(state.gateways, gateway, process._replace(view=state.row, began=0))
            yield Step(f"{gateway} reads {self._names[state.row]}", state._replace(gateways=gateways))

    def _read(self, process: Process, row: int) -> Process:
        if (process, row) not in self._reads:
            assert process.began is not None
            member = self._member(process)
            member.read(self.rows[row], began=NOW - process.began, now=NOW)
            fresh = max(0, round(member.deadline - NOW))
            after = Process(self._id(member.view), fresh, None, process.held, member.lapsed)
            self._reads[process, row] = after
        return self._reads[process, row]

    def _knows(self, process: Process) -> Knows:
        """What a gateway makes of what it knows."""
        if process not in self._known:
            member = self._member(process)
            beat = Written(member.acknowledged(), is_dead=False, still=0)
            out = "".join(
                f", is out of {drain.spot.model} since {drain.generation}" for drain in beat.acknowledged
            )
            may_send = tuple(member.may_send(spot, NOW) for spot in SPOTS)
            self._known[process] = Knows(("beats" + out, beat), may_send)
        return self._known[process]

    def _comes_and_goes(self, state: State, gateway: int) -> Iterator[Step]:
        process, beat = state.gateways[gateway], state.beats[gateway]
        if beat is None:
            came = put(state.gateways, gateway, Process(self._id(Placements(version=-1)), 0, 0))
            after = state._replace(gateways=came)
            yield Step(
                f"{gateway} joins", beaten(after, gateway, Written(frozenset(), is_dead=False, still=0))
            )
        elif process is not None and state.crashes and gateway in self.mortals:
            calls = tuple(
                Call("unknown") if asked.gateway == gateway and call.at in _WITH_ITS_GATEWAY else call
                for asked, call in zip(self.asked, state.calls, strict=True)
            )
            gone = put(state.gateways, gateway, None)
            after = state._replace(gateways=gone, calls=calls, crashes=state.crashes - 1)
            if self.certified:
                after = beaten(after, gateway, beat._replace(is_dead=True))
            yield Step(f"{gateway} crashes", after, is_fair=False)
        elif process is None and not beat.is_dead:
            after = beaten(state, gateway, beat._replace(is_dead=True))
            yield Step(f"{gateway} is certified dead", after, is_fair=False)
        is_led = any(leader and state.gateways[other] for other, leader in enumerate(state.leaders))
        if process is not None and state.leaders[gateway] is None and (state.usurpers or not is_led):
            leaders, usurpers = put(state.leaders, gateway, Leader()), state.usurpers - is_led
            yield Step(
                f"{gateway} leads", state._replace(leaders=leaders, usurpers=usurpers), is_fair=not is_led
            )

    # Requests

    def _calls(self, state: State, number: int) -> Iterator[Step]:
        asked, call = self.asked[number], state.calls[number]
        spot, process = SPOTS[asked.model], state.gateways[asked.gateway]
        if call.at == "sent":
            yield Step(f"request {number} arrives", self._arrived(state, number))
        elif call.at == "runs" and (state.triton[asked.model] == "broken" or self._is_cut(state, number)):
            yield Step(f"request {number} fails", self._failed(state, number))
        elif call.at == "runs":
            after = with_call(state, number, call._replace(at="replied") if process else Call("unknown"))
            yield Step(f"request {number} has run", after)
        if process is None or call.at in (*ENDS, "sent", "runs"):
            return
        if call.at == "waits" and not self._knows(process).may_send[asked.model]:
            return
        member, view = self._member(process), self.rows[process.view]
        if call.at == "waits":
            is_sequence = asked.kind == "sequence"
            member.take(spot)
            if is_sequence:
                member.take(spot)
            sent = Call("sent", loaded=view.places[spot].loaded if is_sequence or self.breaks else 0)
            yield Step(f"{asked.gateway} sends request {number}", self._sent(state, number, sent, member))
        elif call.at == "holds" and member.may_go_on(spot, call.loaded, NOW):
            member.take(spot)
            sent = Call("sent", loaded=call.loaded, is_second=True)
            yield Step(f"{asked.gateway} goes on with {number}", self._sent(state, number, sent, member))
        elif call.at == "holds" and not member.has(spot, call.loaded):
            member.leave(spot)
            yield Step(f"{asked.gateway} has lost {number}", self._held(state, number, Call("lost"), member))
        elif call.at in ("replied", "missed"):
            yield self._left(state, number, member)

    def _sent(self, state: State, number: int, call: Call, member: Member) -> State:
        """Dated by its decision: the place is there then, or was cut."""
        model = self.asked[number].model
        spot = SPOTS[model]
        it = self.rows[state.row].places.get(spot)
        is_there = it is not None and it.phase in (Phase.READY, Phase.DRAINING)
        if not is_there and not 0 < call.loaded <= state.cut[model]:
            raise Broken(f"request {number} is sent to where {spot.model} is not")
        return self._held(state, number, call, member)

    def _is_cut(self, state: State, number: int) -> bool:
        """Whether it was sent for, or is run by, a load whose place was cut: its gateway ends it, at the latest as it reads that."""
        return 0 < state.calls[number].loaded <= state.cut[self.asked[number].model]

    def _failed(self, state: State, number: int) -> State:
        asked = self.asked[number]
        process, spot = state.gateways[asked.gateway], SPOTS[asked.model]
        if process is None:
            return with_call(state, number, Call("unknown"))
        member = self._member(process)
        for _ in range(2 if asked.kind == "sequence" else 1):
            member.leave(spot)
        return self._held(state, number, Call("failed"), member)

    def _held(self, state: State, number: int, call: Call, member: Member) -> State:
        gateway = self.asked[number].gateway
        process = state.gateways[gateway]
        assert process is not None
        after = process._replace(held=tuple(member.held[spot] for spot in SPOTS))
        return with_call(state, number, call)._replace(gateways=put(state.gateways, gateway, after))

    def _arrived(self, state: State, number: int) -> State:
        """All its bytes did. Triton runs it, or says that it did not; a sequence that it does not know it does not go on with."""
        asked, call = self.asked[number], state.calls[number]
        is_there, loaded = state.triton[asked.model] in ("ready", "broken"), state.loads[asked.model]
        if is_there and not (call.is_second and call.loaded != loaded):
            run_by = loaded if self.breaks else call.loaded
            return with_call(state, number, call._replace(at="runs", loaded=run_by))
        if state.gateways[asked.gateway] is None:
            return with_call(state, number, Call("unknown"))
        if not call.lapsed and not self._is_cut(state, number):
            raise Broken(f"request {number} meets a 404, and its gateway was never late")
        return with_call(state, number, call._replace(at="missed"))

    def _left(self, state: State, number: int, member: Member) -> Step:
        """The gateway has Triton's answer. Only what has not run is sent again, and only while its body is there."""
        asked, call = self.asked[number], state.calls[number]
        spot = SPOTS[asked.model]
        member.leave(spot)
        after = Call("answered")
        if call.at == "missed":
            after = Call("lost" if call.is_second else "refused" if asked.kind == "streamed" else "waits")
        elif asked.kind == "sequence" and not call.is_second:
            after = call._replace(at="holds")
        if asked.kind == "sequence" and after.at != "holds":
            member.leave(spot)
        return Step(
            f"{asked.gateway} has request {number} {after.at}", self._held(state, number, after, member)
        )

    # Leaders

    def _leads(self, state: State, gateway: int, leader: Leader) -> Iterator[Step]:
        row = self.rows[state.row]
        heard = self._heard(state, leader)
        if heard != leader:
            yield Step(f"leader {gateway} hears", with_leader(state, gateway, heard))
        fence = max(
            state.fence, row.version
        )  # what Triton says is asked first, with these placements' version
        for model, spot in enumerate(SPOTS):
            step = self._due(state, leader, model)
            if isinstance(step, Move):
                yield self._moved(state, gateway, spot, step.to, fence)
            elif step is not None:
                order = leader._replace(order=(step, model, row.version))
                after = with_leader(state, gateway, order)._replace(fence=fence)
                yield Step(f"leader {gateway} orders {step.name} {spot.model}", after)
            else:
                yield from self._plans(state, gateway, model, fence)

    def _heard(self, state: State, leader: Leader) -> Leader:
        key = (leader, state.beats, state.row)
        if key not in self._hearings:
            watch, version = self._watch(leader), self.rows[state.row].version
            beats = {
                str(each): Beat(1, beat.acknowledged, beat.is_dead)
                for each, beat in enumerate(state.beats)
                if beat is not None
            }
            watch.hear(beats, version=version, asked_at=NOW, now=NOW)
            told = tuple(as_told(watch.heard.get(str(each))) for each in range(len(state.beats)))
            self._hearings[key] = Leader(watch.version, told)
        return self._hearings[key]

    def _due(self, state: State, leader: Leader, model: int) -> Move | Order | None:
        key = (leader, state.row, model, state.triton[model])
        if key not in self._dues:
            spot, said = SPOTS[model], _SAID[state.triton[model]]
            self._dues[key] = due(spot, self.rows[state.row].places.get(spot), said, self._watch(leader))
        return self._dues[key]

    def _moved(
        self, state: State, gateway: int, spot: Spot, to: Phase | None, fence: int, *, whim: bool = False
    ) -> Step:
        row = moved(self.rows[state.row], spot, to)
        name = f"leader {gateway} writes {row.version}: {spot.model} {to.name if to else 'gone'}"
        after = state._replace(row=self._id(row), fence=fence, whims=state.whims - whim)
        return Step(name, after, is_fair=not whim)

    def _plans(self, state: State, gateway: int, model: int, fence: int) -> Iterator[Step]:
        """What is wanted, or a whim. What decides it is not what is looked at here."""
        row, spot = self.rows[state.row], SPOTS[model]
        it = row.places.get(spot)
        if it is not None and state.triton[model] == "broken" and it.phase in (Phase.READY, Phase.DRAINING):
            cut = put(state.cut, model, it.loaded)
            after = state._replace(row=self._id(moved(row, spot, Phase.UNLOADING, is_cut=True)), cut=cut)
            yield Step(f"leader {gateway} cuts {spot.model}", after._replace(fence=fence))
            return
        is_wanted = bool(self._there(state, model, ("waits",)))
        makes_room = bool(self._there(state, 1 - model, ("waits",))) and not is_wanted
        strays = any(
            said != "away" and SPOTS[each] not in row.places for each, said in enumerate(state.triton)
        )
        if it is None and not strays and (is_wanted or state.whims):
            new = placed(row, spot, 1, 1)
            if new is not None:
                after = state._replace(row=self._id(new), fence=fence, whims=state.whims - (not is_wanted))
                yield Step(
                    f"leader {gateway} writes {new.version}: {spot.model} LOADING", after, is_fair=is_wanted
                )
        elif it is not None and it.phase is Phase.READY and (makes_room or state.whims):
            yield self._moved(state, gateway, spot, Phase.DRAINING, fence, whim=not makes_room)
        elif it is not None and it.phase is Phase.DRAINING and state.whims:
            yield self._moved(state, gateway, spot, Phase.READY, fence, whim=True)
        elif it is not None and it.phase is Phase.LOADING and state.whims:
            yield self._moved(state, gateway, spot, Phase.UNLOADING, fence, whim=True)

    def _watch(self, leader: Leader) -> Watch:
        heard = {
            str(each): Heard(int(told.is_newest), NOW - told.still, told.is_out, told.acknowledged)
            for each, told in enumerate(leader.told)
            if told is not None
        }
        return self.watch(self._patience, leader.version, heard)

    def _told(self, state: State, gateway: int, leader: Leader, order: tuple[Order, int, int]) -> State:
        """The order arrives, however late, and is taken or not."""
        kind, model, version = order
        state = with_leader(state, gateway, leader._replace(order=None))
        fence = self.fence(state.fence)
        if not fence.passes(version):
            return state
        state, said = state._replace(fence=fence.version), state.triton[model]
        if kind is Order.LOAD and said not in ("ready", "broken"):
            if said == "unloading" or state.triton[1 - model] != "away":
                raise Broken(f"memory: {SPOTS[model].model} is loaded where there is no room")
            loads = put(state.loads, model, self.rows[state.row].places[SPOTS[model]].loaded)
            return state._replace(triton=put(state.triton, model, "ready"), loads=loads)
        if kind is Order.UNLOAD and said in ("ready", "broken"):
            for number in self._there(state, model, _HELD):
                is_served = state.gateways[self.asked[number].gateway] and not state.calls[number].lapsed
                if is_served and not self._is_cut(state, number):
                    raise Broken(
                        f"{SPOTS[model].model} is unloaded under request {number} of a living member"
                    )
            return state._replace(triton=put(state.triton, model, "unloading"))
        return state

    # Time

    def _time(self, state: State) -> Iterator[Step]:
        living = [process for process in state.gateways if process is not None]
        is_awaited = len(living) < len(state.gateways) and not self.certified
        is_free = is_awaited and all(process.fresh == self.lasts for process in living)
        if not is_free and not state.pauses:
            return
        beats = tuple(beat and beat._replace(still=min(beat.still + 1, self._out)) for beat in state.beats)
        after = state._replace(
            gateways=tuple(process and self._older(process) for process in state.gateways),
            beats=beats,
            leaders=tuple(
                leader and leader._replace(told=self._still(leader.told)) for leader in state.leaders
            ),
            calls=tuple(
                call._replace(lapsed=True)
                if call.at in _HELD and self._is_out(beats[asked.gateway])
                else call
                for asked, call in zip(self.asked, state.calls, strict=True)
            ),
            pauses=state.pauses - (not is_free),
        )
        if after != state:
            yield Step("time goes by", after, is_fair=is_free)

    def _is_out(self, beat: Written | None) -> bool:
        return beat is not None and beat.still >= self._out

    def _older(self, process: Process) -> Process:
        began = None if process.began is None or process.began + 1 >= self.lasts else process.began + 1
        return process._replace(fresh=max(0, process.fresh - 1), began=began)

    def _still(self, told: tuple[Told | None, ...]) -> tuple[Told | None, ...]:
        return tuple(it and it._replace(still=min(it.still + it.is_newest, self._out)) for it in told)
