/* The model's bounds, and the protocol's rules as switches. */

/* ---- Bounds. run.sh sets them for each variant. */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef BATCH
#define BATCH 1 /* entries that a worker takes at once, under one token */
#endif
#ifndef SUBMISSIONS
#define SUBMISSIONS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2 /* the last one does not retry */
#endif
#ifndef DELIVERY_LIMIT
#define DELIVERY_LIMIT 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef LAPSES
#define LAPSES 1 /* how often somebody takes over from an owner that is alive but late */
#endif
#ifndef LOST_ANSWERS
#define LOST_ANSWERS 0 /* writes that happened though the caller was told nothing; it repeats them */
#endif
#ifndef REPLAYS
#define REPLAYS 0
#endif
#ifndef REDIS_LOSSES
#define REDIS_LOSSES 0 /* Redis comes back empty */
#endif
#ifndef GROUP_LOSSES
#define GROUP_LOSSES 0 /* the consumer group is gone and made again from the stream's beginning */
#endif
#ifndef SUPERFLUOUS
#define SUPERFLUOUS 0 /* how often the reconciler re-queues what needed no re-queuing */
#endif
#ifndef RECONCILER
#define RECONCILER 0
#endif

/* ---- The rules. 1 is the protocol; a mutant sets one to 0 and must be caught (or, where run.sh says so, proves that
 * the rule is not needed for P1 and P2). */
#ifndef DECIDE_CHECKS_TOKEN
#define DECIDE_CHECKS_TOKEN 1 /* 4a: filter {_id, claim.token} */
#endif
#ifndef COMMIT_CHECKS_TOKEN
#define COMMIT_CHECKS_TOKEN 1 /* 4c: filter {_id, claim.token} */
#endif
#ifndef TAKEOVER_CHECKS_TOKEN
#define TAKEOVER_CHECKS_TOKEN 1 /* 2: the old token is in the take-over's filter */
#endif
#ifndef TAKEOVER_CHECKS_DECISION
#define TAKEOVER_CHECKS_DECISION 1 /* 2: … and so is the absence of a decision when none was read */
#endif
#ifndef OWN_TOKEN_CHECKS_ENTRY
#define OWN_TOKEN_CHECKS_ENTRY 1 /* 2: "ours" is our token and this entry: two entries of a batch share the token */
#endif
#ifndef CLAIMS_AGE
#define CLAIMS_AGE 1 /* 2: a claim older than a lease may be taken over by another entry */
#endif
#ifndef MARK_NAMES_STEP
#define MARK_NAMES_STEP 1 /* 4: the mark that tells what was applied tells 4a from 4c */
#endif
#ifndef STORE_FIRST
#define STORE_FIRST 1 /* settle only after the commit */
#endif
#ifndef DECISION_FIRST
#define DECISION_FIRST 1 /* 4a before 4b */
#endif
#ifndef DECISION_BEATS_POISON
#define DECISION_BEATS_POISON 1 /* a stored decision is applied even if the entry was delivered too often */
#endif
#ifndef EFFECTS_GUARDED
#define EFFECTS_GUARDED 1 /* 4b: applied: {$ne: key} */
#endif
#ifndef LETTER_NAMES_ATTEMPT
#define LETTER_NAMES_ATTEMPT 1 /* 4b: a dead letter is written once per attempt that killed */
#endif
#ifndef LOST_SETTLES_NOTHING
#define LOST_SETTLES_NOTHING 1 /* an owner whose token is gone leaves the entry alone */
#endif
#ifndef SETTLE_CHECKS_ENTRY
#define SETTLE_CHECKS_ENTRY 1 /* 5: the entry's existence is the guard */
#endif
#ifndef SETTLE_CHECKS_OWNER
#define SETTLE_CHECKS_OWNER 0 /* 5: … and that it is in our pending list (a variant) */
#endif
#ifndef PUBLISHES_KEPT
#define PUBLISHES_KEPT 1 /* 4c leaves the publishes in the document, so that whoever finds it finished can add them */
#endif
#ifndef PUBLISHES_MARKED
#define PUBLISHES_MARKED 1 /* 5: a marker in Redis makes them once; 0: the entry's existence does */
#endif
#ifndef KEEP_CHECKS_OWNER
#define KEEP_CHECKS_OWNER 1 /* a sign of life only for entries still its own */
#endif
#ifndef REPLAY_STORE_FIRST
#define REPLAY_STORE_FIRST 1
#endif
#ifndef EPOCH_OF_TAKE
#define EPOCH_OF_TAKE 1 /* the claim bears the epoch that the entry was taken under, not the one known by now */
#endif
