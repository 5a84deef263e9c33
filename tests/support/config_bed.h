/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations from text, for the tests that read them. */
#ifndef SUPPORT_CONFIG_BED_H
#define SUPPORT_CONFIG_BED_H

#include "tablesvc/config.h"

/* What the rows below leave out. Lines: each row says where its own text starts. */
#define POOLS "pools: [{name: p, prefixes: [192.0.2.0/24]}]\n"
#define REALMS "realms: [{name: home, prefixes: [10.0.0.0/8], pool: p}]\n"
#define BASE POOLS REALMS

/* NULL with a sentence in error; the error and the result are one, or the test fails. */
struct config *parse(const char *text, char *error, unsigned size);
/* Fails the test when there is an error. */
struct config *parse_good(const char *text);

#endif
