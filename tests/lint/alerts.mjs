// The rules of Prometheus are valid, each alert is tested to fire and to stay quiet, and leads to a page that exists.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { parse } from 'yaml';
import { exists, isMain, ROOT, read, report } from './tree.mjs';

const FOLDER = 'deploy/prometheus';
const RULES = `${FOLDER}/kijko.rules.yml`;
const TESTS = `${FOLDER}/kijko.test.yml`;

/** Everything that the rules and their tests lack. */
export function checkAlerts(rules, tests, isPage) {
  const alerts = rules.groups.flatMap((group) => group.rules).filter((rule) => rule.alert);
  const tested = tests.tests.flatMap((test) => test.alert_rule_test);
  const fires = new Set(tested.filter((test) => test.exp_alerts.length > 0).map((test) => test.alertname));
  const quiet = new Set(tested.filter((test) => test.exp_alerts.length === 0).map((test) => test.alertname));
  return alerts.flatMap(({ alert, labels, annotations }) => [
    ...(fires.has(alert) ? [] : [`${alert} is never tested to fire: add its cause to ${TESTS}`]),
    ...(quiet.has(alert) ? [] : [`${alert} is never tested to stay quiet: add a test to ${TESTS}`]),
    ...(['warning', 'critical'].includes(labels?.severity) ? [] : [`${alert} has no severity`]),
    ...(annotations?.summary ? [] : [`${alert} has no summary`]),
    ...(isPage(annotations?.runbook ?? '') ? [] : [`${alert} leads to no page: ${annotations?.runbook}`]),
  ]);
}

/** Whether a page of the documentation has this heading. */
export function isPage(root, target) {
  const [path, anchor] = target.split('#');
  if (!path || !exists(root, path)) return false;
  const slug = (heading) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-');
  const headings = read(root, path)
    .split('\n')
    .filter((line) => /^#+ /.test(line))
    .map((line) => slug(line.replace(/^#+ /, '')));
  return anchor === undefined || headings.includes(anchor);
}

function promtool(...args) {
  try {
    execFileSync('promtool', args, { cwd: ROOT, encoding: 'utf8', stdio: 'pipe' });
    return [];
  } catch (error) {
    return [`promtool ${args.join(' ')}: ${error.stdout ?? ''}${error.stderr ?? error.message}`];
  }
}

if (isMain(import.meta)) {
  const [rules, tests] = [RULES, TESTS].map((path) => parse(read(ROOT, path)));
  report('alerts', [
    ...checkAlerts(rules, tests, (target) => isPage(ROOT, target)),
    ...promtool('check', 'rules', RULES),
    ...promtool('check', 'config', join(FOLDER, 'prometheus.yml')),
    ...promtool('test', 'rules', TESTS),
  ]);
}
