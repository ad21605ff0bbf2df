"""The scenarios: what happens in each, what to look at, and what its trace has to show."""

from shared.telemetry import LinkReason, semconv
from shared.tools.local import troubles
from shared.tools.local.scenario import Exhibit, Scenario
from shared.tracing import names

CHECK = "process orders:inventory.check"
REPLY = "process order-api.replies.{instance}"
ATTEMPT = (semconv.DELIVERY_ATTEMPT, semconv.DELIVERY_REDELIVERED, semconv.DELIVERY_OUTCOME)

SCENARIOS = (
    Scenario(
        "Success",
        "Nothing goes wrong: the trace to compare the others with.",
        "everything hangs under one request. The request links to the reply that it waited for (reply); three group "
        "commits each served one span or several: below the one, or in a trace of its own that links to each (batch_member).",
        troubles.succeed,
        Exhibit(CHECK, {semconv.DELIVERY_ATTEMPT: 1}, LinkReason.REPLY, tells=ATTEMPT),
    ),
    Scenario(
        "Out of stock",
        "Five gadgets are ordered, and there are three.",
        "no span has failed: a refusal is an answer. It is in the attributes of the check's process span.",
        troubles.run_out_of_stock,
        Exhibit(
            CHECK,
            {names.INVENTORY_IN_STOCK: False, names.ORDER_STATUS: "out_of_stock"},
            LinkReason.REPLY,
            tells=(names.INVENTORY_IN_STOCK, names.ORDER_REASON),
        ),
    ),
    Scenario(
        "Duplicate",
        "The same order is placed twice; this is the trace of the second time.",
        "a request that sends nothing, and answers with the outcome of the first one: its link leads there (duplicate_of).",
        troubles.repeat,
        Exhibit(
            "POST /orders",
            {names.ORDER_STATUS: "success"},
            LinkReason.DUPLICATE_OF,
            commits=1,
            tells=(names.ORDER_ID, names.ORDER_STATUS),
        ),
    ),
    Scenario(
        "Late reply",
        "The worker is stopped (SIGSTOP) until the request has given up after 8 s, and then goes on.",
        "the request ends long before its reply, so it has no link to it; the reply links back to the request that it "
        "came too late for (late_reply_to). The dots are the time that the check waited.",
        troubles.answer_late,
        Exhibit(
            REPLY,
            {semconv.DELIVERY_REPLY: "late"},
            LinkReason.LATE_REPLY_TO,
            tells=(semconv.DELIVERY_REPLY, names.ORDER_STATUS),
        ),
    ),
    Scenario(
        "Redelivery after a kill",
        "The worker is killed (SIGKILL) in the middle of the check, and started again; the broker hands the check out anew.",
        "the process span is the second attempt, redelivered. The first one has no span: it died with its process "
        "before it could be exported, and the gap before the second is what is left of it.",
        troubles.kill_worker,
        Exhibit(
            CHECK,
            {semconv.DELIVERY_REDELIVERED: True, semconv.DELIVERY_OUTCOME: "ack"},
            tells=ATTEMPT,
        ),
    ),
    Scenario(
        "Database away",
        f"Somebody holds the lock of the worker's database for {troubles.AWAY_SECONDS:.0f} s, and the worker stops consuming: a "
        "database that is away is no failure of a check.",
        "one process span, the first attempt, that lasts as long: the check is held, and comes nearer to no limit. The commit "
        "that failed is below, and the one that succeeded.",
        troubles.take_database_away,
        Exhibit(
            CHECK,
            {semconv.DELIVERY_OUTCOME: "ack", semconv.DELIVERY_ATTEMPT: 1},
            LinkReason.REPLY,
            commits=4,
            tells=ATTEMPT,
        ),
    ),
    Scenario(
        "Retry of a check that fails while others succeed",
        "The worker's database refuses to change the stock of gadgets, by a trigger that somebody has put there; an order for "
        "a widget succeeds meanwhile. Then the trigger is taken away.",
        "the first attempt fails and sends the check to a retry queue, where it waits for 0.5 s. The next attempt is in the "
        "same trace and links to the first (previous_attempt). The failed commit is below.",
        troubles.refuse_gadgets,
        Exhibit(
            CHECK,
            {semconv.DELIVERY_OUTCOME: "retry", semconv.DELIVERY_ATTEMPT: 1},
            LinkReason.PREVIOUS_ATTEMPT,
            commits=4,
            tells=(semconv.DELIVERY_ATTEMPT, semconv.DELIVERY_OUTCOME, semconv.ERROR_TYPE),
        ),
    ),
    Scenario(
        "Poison to dead letter, and its replay",
        f"{troubles.VANISHING} consumers in a row take the check and vanish. The worker does not try for ever: it makes a dead "
        "letter of it, and refuses the order. Then a person replays it.",
        "the check is sent to the dead letters, the order is told so (error). The replay is a new trace that links to the "
        "span in which the check died (replay_of); it takes the stock, and the order succeeds after all.",
        troubles.poison,
        Exhibit(
            CHECK,
            {semconv.DELIVERY_OUTCOME: "dead_letter", semconv.ERROR_TYPE: "too_many_attempts"},
            commits=2,
            linked_by=LinkReason.REPLAY_OF,
            tells=(semconv.DELIVERY_ATTEMPT, semconv.DELIVERY_OUTCOME, semconv.ERROR_TYPE),
        ),
        replay=Exhibit(
            CHECK,
            {semconv.DELIVERY_OUTCOME: "ack", names.ORDER_STATUS: "success"},
            LinkReason.REPLAY_OF,
            commits=2,
            tells=(semconv.DELIVERY_ATTEMPT, semconv.DELIVERY_OUTCOME, names.ORDER_STATUS),
        ),
    ),
    Scenario(
        "Broker away",
        "The broker is killed (SIGKILL). An order is accepted all the same, and the broker is started again.",
        "the request ends at once and says in an event that its check is deferred. The order is stored with its trace "
        "context, so the check that the relay sends later is in the same trace.",
        troubles.kill_broker,
        Exhibit(
            REPLY,
            {semconv.DELIVERY_REPLY: "late"},
            LinkReason.LATE_REPLY_TO,
            tells=(semconv.DELIVERY_REPLY, names.ORDER_STATUS),
        ),
    ),
)
