/* Inside the store: attempts and decisions as documents. */
#ifndef STORE_DECISION_H
#define STORE_DECISION_H

#include "bson.h"
#include "event/delivery.h"

#define MESSAGE_MAX_BYTES 4096

/* How long until the next attempt, whoever decided it. */
int64_t decision_delay_ms(const struct delivery *delivery);

/* true when the decision must be stored before anything is done about it. */
bool decision_has_effects(const struct delivery *delivery);

/* One element of attempts[]. */
void put_attempt(bson_t *doc, const char *name, const struct delivery *delivery, struct slice worker);

/* The stored decision: everything that an owner who did not run the event needs to finish it. */
void put_decision(bson_t *doc, const char *name, const struct delivery *delivery, struct slice worker);

/* Fills decision, retry, outcome, times and failures from it, copied into arena. false: not a decision. */
bool read_decision(const bson_t *stored, struct arena *arena, struct delivery *delivery);

void put_publishes(bson_t *doc, const struct outcome *outcome);
/* outcome's publishes from an array {topic, payload}, copied into arena. */
void read_publishes(const bson_t *list, struct arena *arena, struct outcome *outcome);

#endif
