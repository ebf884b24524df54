// SPDX-License-Identifier: Apache-2.0

/** Exit status of every failure that is ours and not the program's, as `env`, `timeout` and `docker run` use it. */
export const OUR_FAILURE = 125;
